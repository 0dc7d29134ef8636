//! Keeps the connection to a broker: what `rumqttc` sees and does becomes [`News`], and what it
//! sends again after a loss is put right.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clasp_rt_client::{Backoff, random};
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::{self as v4, Outgoing, v5};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::broker::{Ack, Message, News, ROOM_V4, TAG, room_v5};
use super::flight::Order;
use super::way::WAY;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

pub enum Events {
    V4(Box<v4::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What the library does not know of its own past.
#[derive(Debug, Default)]
struct Past {
    /// It sends again by packet id, which begins anew at the broker's receive maximum.
    order: Order,
    /// Messages of the broker at QoS 2 that were received and are not released. The library forgets
    /// them, and takes the release for an error.
    received: BTreeSet<u16>,
}

/// A task of its own, because `poll` must not be dropped half-way.
pub async fn drive(mut events: Events, tell: mpsc::Sender<News>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, random());
    let mut past = Past::default();
    loop {
        let news = match events.poll(&mut past).await {
            Ok(None) => continue,
            Ok(Some(news)) => news,
            Err(why) => {
                for news in events.unread(&mut past) {
                    if tell.send(news).await.is_err() {
                        return;
                    }
                }
                let (heard, has_heard) = oneshot::channel();
                if tell.send(News::Lost { why, heard }).await.is_err() {
                    return;
                }
                // Until then it may hand over what is for the connection that is gone.
                let _ = has_heard.await;
                tokio::select! {
                    () = sleep(backoff.next_wait()) => {}
                    () = tell.closed() => return,
                }
                events.mend(&past);
                continue;
            }
        };
        if let News::Connected { kept, .. } = news {
            backoff.reset();
            if !kept {
                past = Past::default();
                events.forget();
            }
        }
        let is_over = matches!(news, News::Gone);
        if tell.send(news).await.is_err() || is_over {
            return;
        }
    }
}

impl Past {
    fn note(&mut self, outgoing: &Outgoing) {
        match outgoing {
            Outgoing::Publish(id) => self.order.left(*id),
            Outgoing::PubRec(id) => drop(self.received.insert(*id)),
            Outgoing::PubComp(id) => drop(self.received.remove(id)),
            _ => {}
        }
    }

    fn read_v4(&mut self, event: v4::Event) -> Option<News> {
        if let v4::Event::Outgoing(outgoing) = &event {
            self.note(outgoing);
        }
        self.taken(news_v4(event))
    }

    fn read_v5(&mut self, event: v5::Event) -> Option<News> {
        if let v5::Event::Outgoing(outgoing) = &event {
            self.note(outgoing);
        }
        self.taken(news_v5(event))
    }

    fn taken(&mut self, news: Option<News>) -> Option<News> {
        if let Some(News::Taken(id)) = news {
            self.order.taken(id);
        }
        news
    }
}

/// What [`Events::mend`] does with the events of either version: the library has two sets of types
/// for them, with the same names.
macro_rules! mend {
    ($events:ident, $past:ident, $received:ident, $taken:expr) => {{
        let mut known = BTreeSet::new();
        $events.clean();
        $events.state.collision = None;
        $events.pending.retain_mut(|request| match request {
            Request::Publish(publish) => {
                publish.dup = true;
                publish.pkid != 0 && known.insert(publish.pkid)
            }
            Request::PubRel(release) => known.insert(release.pkid),
            _ => false,
        });
        $events.pending.make_contiguous().sort_by_key(|request| match request {
            Request::Publish(publish) => $past.order.place(publish.pkid),
            Request::PubRel(release) => $past.order.place(release.pkid),
            _ => usize::MAX,
        });
        let publish = |id| Publish { pkid: id, ..$received() };
        // None of it is sent, and there is nothing that it could say against it.
        for request in &$events.pending {
            if let Request::PubRel(release) = request {
                let sent = Request::Publish(publish(release.pkid));
                let _ = $events.state.handle_outgoing_packet(sent);
                let taken = Packet::PubRec($taken(release.pkid));
                let _ = $events.state.handle_incoming_packet(taken);
            }
        }
        for id in &$past.received {
            let _ = $events.state.handle_incoming_packet(Packet::Publish(publish(*id)));
        }
        $events.state.events.clear();
    }};
}

impl Events {
    async fn poll(&mut self, past: &mut Past) -> Result<Option<News>, String> {
        match self {
            Self::V4(events) => {
                let event = events.poll().await.map_err(|why| why.to_string())?;
                Ok(past.read_v4(event))
            }
            Self::V5(events) => {
                let event = events.poll().await.map_err(|why| why.to_string())?;
                Ok(past.read_v5(event))
            }
        }
    }

    /// What happened before the connection was lost, and was not told.
    fn unread(&mut self, past: &mut Past) -> Vec<News> {
        match self {
            Self::V4(events) => {
                let unread = std::mem::take(&mut events.state.events);
                unread.into_iter().filter_map(|event| past.read_v4(event)).collect()
            }
            Self::V5(events) => {
                let unread = std::mem::take(&mut events.state.events);
                unread.into_iter().filter_map(|event| past.read_v5(event)).collect()
            }
        }
    }

    /// The broker knows nothing of what went on.
    fn forget(&mut self) {
        match self {
            Self::V4(events) => drop(events.state.clean()),
            Self::V5(events) => drop(events.state.clean()),
        }
    }

    /// Leaves of what the library would do on the next connection what belongs to the session: to
    /// send again what the broker may have, as duplicates and in their order, and to complete what
    /// it has received. All else is asked anew, or waits elsewhere.
    ///
    /// The library counts what it releases as taken, though it had forgotten that it was on its
    /// way, and takes a release of what it received for an error. Both are put back by telling it
    /// again what had come.
    fn mend(&mut self, past: &Past) {
        match self {
            Self::V4(events) => {
                use v4::{Packet, PubRec, Publish, QoS, Request};
                let received = || Publish::from_bytes("", QoS::ExactlyOnce, Bytes::new());
                mend!(events, past, received, PubRec::new);
            }
            Self::V5(events) => {
                use v5::Request;
                use v5::mqttbytes::QoS;
                use v5::mqttbytes::v5::{Packet, PubRec, Publish};
                let received = || Publish::new("", QoS::ExactlyOnce, Bytes::new(), None);
                mend!(events, past, received, |id| PubRec::new(id, None));
            }
        }
    }
}

fn news_v4(event: v4::Event) -> Option<News> {
    use v4::Packet;
    Some(match event {
        v4::Event::Outgoing(Outgoing::Publish(id)) => News::Left(id),
        v4::Event::Outgoing(Outgoing::Disconnect) => News::Gone,
        v4::Event::Incoming(Packet::ConnAck(ack)) => {
            News::Connected { kept: ack.session_present, room: ROOM_V4 }
        }
        v4::Event::Incoming(Packet::PubAck(ack)) => News::Taken(ack.pkid),
        v4::Event::Incoming(Packet::PubComp(ack)) => News::Taken(ack.pkid),
        v4::Event::Incoming(Packet::SubAck(ack)) => {
            let failed =
                |code: &&v4::SubscribeReasonCode| matches!(code, v4::SubscribeReasonCode::Failure);
            News::Refused(ack.return_codes.iter().filter(failed).count())
        }
        v4::Event::Incoming(Packet::Publish(publish)) => News::Message(Box::new(Message {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            retain: publish.retain,
            qos: publish.qos as u8,
            expiry_s: None,
            content_type: None,
            tag: None,
            way: String::new(),
            ack: Ack::V4(publish),
        })),
        _ => return None,
    })
}

fn news_v5(event: v5::Event) -> Option<News> {
    use v5::mqttbytes::v5::{Packet, PubRecReason, SubscribeReasonCode};
    Some(match event {
        v5::Event::Outgoing(Outgoing::Publish(id)) => News::Left(id),
        v5::Event::Outgoing(Outgoing::Disconnect) => News::Gone,
        v5::Event::Incoming(Packet::ConnAck(ack)) => News::Connected {
            kept: ack.session_present,
            room: room_v5(ack.properties.and_then(|properties| properties.receive_max)),
        },
        v5::Event::Incoming(Packet::PubAck(ack)) => News::Taken(ack.pkid),
        v5::Event::Incoming(Packet::PubComp(ack)) => News::Taken(ack.pkid),
        // It ends there when the broker says no.
        v5::Event::Incoming(Packet::PubRec(ack)) if ack.reason != PubRecReason::Success => {
            News::Taken(ack.pkid)
        }
        v5::Event::Incoming(Packet::SubAck(ack)) => {
            let failed =
                |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
            News::Refused(ack.return_codes.iter().filter(failed).count())
        }
        v5::Event::Incoming(Packet::Publish(publish)) => {
            let properties = publish.properties.as_ref();
            News::Message(Box::new(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.clone(),
                retain: publish.retain,
                qos: publish.qos as u8,
                expiry_s: properties.and_then(|p| p.message_expiry_interval),
                content_type: properties.and_then(|p| p.content_type.clone()),
                tag: property(properties, TAG),
                way: property(properties, WAY).unwrap_or_default(),
                ack: Ack::V5(publish),
            }))
        }
        _ => return None,
    })
}

/// The first user property of this name.
fn property(properties: Option<&PublishProperties>, name: &str) -> Option<String> {
    let mut found = properties?.user_properties.iter().filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value.clone())
}
