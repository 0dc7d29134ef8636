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
                events.mend(&mut past);
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

    /// The id of a message at QoS 2 that was taken before and not released: the broker did not hear
    /// so (MQTT 5 §4.3.3, method B).
    fn again_v4(&self, event: &v4::Event) -> Option<u16> {
        let v4::Event::Incoming(v4::Packet::Publish(publish)) = event else { return None };
        let is_known = publish.qos == v4::QoS::ExactlyOnce && self.received.contains(&publish.pkid);
        is_known.then_some(publish.pkid)
    }

    fn again_v5(&self, event: &v5::Event) -> Option<u16> {
        use v5::mqttbytes::{QoS, v5::Packet};
        let v5::Event::Incoming(Packet::Publish(publish)) = event else { return None };
        let is_known = publish.qos == QoS::ExactlyOnce && self.received.contains(&publish.pkid);
        is_known.then_some(publish.pkid)
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
            // The router has the message; the broker will send it again.
            Request::PubRec(taken) => {
                $past.received.insert(taken.pkid);
                false
            }
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
                if let Some(id) = past.again_v4(&event) {
                    events.pending.push_back(v4::Request::PubRec(v4::PubRec::new(id)));
                    return Ok(None);
                }
                Ok(past.read_v4(event))
            }
            Self::V5(events) => {
                let event = events.poll().await.map_err(|why| why.to_string())?;
                if let Some(id) = past.again_v5(&event) {
                    let taken = v5::mqttbytes::v5::PubRec::new(id, None);
                    events.pending.push_back(v5::Request::PubRec(taken));
                    return Ok(None);
                }
                Ok(past.read_v5(event))
            }
        }
    }

    /// What happened before the connection was lost, and was not told.
    fn unread(&mut self, past: &mut Past) -> Vec<News> {
        match self {
            Self::V4(events) => {
                let unread = std::mem::take(&mut events.state.events);
                let mut read = |event| match past.again_v4(&event) {
                    Some(_) => None,
                    None => past.read_v4(event),
                };
                unread.into_iter().filter_map(&mut read).collect()
            }
            Self::V5(events) => {
                let unread = std::mem::take(&mut events.state.events);
                let mut read = |event| match past.again_v5(&event) {
                    Some(_) => None,
                    None => past.read_v5(event),
                };
                unread.into_iter().filter_map(&mut read).collect()
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
    fn mend(&mut self, past: &mut Past) {
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

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::super::broker::Client;
    use super::*;

    /// Longer than any machine takes.
    async fn within<T>(it: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), it).await.expect("it comes")
    }

    /// The next packet, as short ones are written.
    async fn packet(broker: &mut TcpStream) -> Vec<u8> {
        let mut packet = vec![0; 2];
        within(broker.read_exact(&mut packet)).await.expect("a packet");
        let len = usize::from(packet[1]);
        packet.resize(2 + len, 0);
        within(broker.read_exact(&mut packet[2..])).await.expect("all of it");
        packet
    }

    /// Takes a connection; `connack` has the rest of the packet.
    async fn accept(broker: &TcpListener, connack: &[u8]) -> TcpStream {
        let (mut connection, _) = within(broker.accept()).await.expect("a connection");
        assert_eq!(packet(&mut connection).await[0], 0x10, "CONNECT");
        let head = [0x20, connack.len() as u8];
        connection.write_all(&[&head, connack].concat()).await.expect("it is there");
        connection
    }

    async fn message(news: &mut mpsc::Receiver<News>) -> Message {
        match within(news.recv()).await {
            Some(News::Message(message)) => *message,
            other => panic!("{other:?} is no message"),
        }
    }

    /// `none`: what stands for no properties.
    async fn said_again(listener: TcpListener, client: Client, events: Events, none: &[u8]) {
        let (tell, mut news) = mpsc::channel(8);
        let driving = tokio::spawn(drive(events, tell));
        let publish = |first: u8, text: u8| {
            let body = [&[0, 1, b'a', 0, 7], none, &[text]].concat();
            [&[first, body.len() as u8], &body[..]].concat()
        };
        let mut broker = accept(&listener, &[&[0, 0], none].concat()).await;
        assert!(matches!(within(news.recv()).await, Some(News::Connected { kept: false, .. })));
        broker.write_all(&publish(0x34, b'x')).await.expect("it is there");
        let first = message(&mut news).await;
        drop(broker);
        let Some(News::Lost { heard, .. }) = within(news.recv()).await else { panic!("a loss") };
        // It was taken, which the broker cannot hear any more.
        assert!(client.acknowledge(&first.ack).is_ok());
        drop(heard);

        let mut broker = accept(&listener, &[&[1, 0], none].concat()).await;
        assert!(matches!(within(news.recv()).await, Some(News::Connected { kept: true, .. })));
        broker.write_all(&publish(0x3C, b'x')).await.expect("it is there");
        assert_eq!(packet(&mut broker).await, [0x50, 2, 0, 7], "PUBREC");
        broker.write_all(&[0x62, 2, 0, 7]).await.expect("it is there");
        assert_eq!(packet(&mut broker).await, [0x70, 2, 0, 7], "PUBCOMP");
        broker.write_all(&publish(0x34, b'y')).await.expect("it is there");
        assert_eq!(message(&mut news).await.payload, "y", "the id is somebody else's now");
        driving.abort();
    }

    #[tokio::test]
    async fn a_message_that_was_taken_when_the_connection_broke_is_not_taken_again() {
        let listener = || TcpListener::bind(("127.0.0.1", 0));
        let at_v4 = listener().await.expect("a free port");
        let port = at_v4.local_addr().expect("it is bound").port();
        let mut options = v4::MqttOptions::new("it", "127.0.0.1", port);
        options.set_clean_session(false).set_manual_acks(true);
        let (client, events) = v4::AsyncClient::new(options, 8);
        said_again(at_v4, Client::V4(client), Events::V4(Box::new(events)), &[]).await;

        let at_v5 = listener().await.expect("a free port");
        let port = at_v5.local_addr().expect("it is bound").port();
        let mut options = v5::MqttOptions::new("it", "127.0.0.1", port);
        options.set_clean_start(false).set_manual_acks(true);
        let (client, events) = v5::AsyncClient::new(options, 8);
        let client = Client::V5 { client, tag: String::new() };
        said_again(at_v5, client, Events::V5(Box::new(events)), &[0]).await;
    }
}
