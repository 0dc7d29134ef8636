//! One thread's door to the kernel: set-up, one system call a turn, and what came of it.

mod answer;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, cqueue, squeue};

use crate::buffer::Buffer;
use crate::datagram::{self, Datagrams, Unreadable};
use crate::enter::{self, Registered};
use crate::exchange::Sleeper;
use crate::op::{self, Answer, Op, Tag};
use crate::pool::{Lease, Pool};
use crate::probe;
use crate::slots::{Packets, Receive, Role, Sending, Slots, Socket, Stream};

/// Answers handled in one turn, so that peers and timers are not starved by a busy network.
const ANSWERS_PER_TURN: usize = 256;

const STREAM_GROUP: u16 = 0;
const PACKET_GROUP: u16 = 1;

/// Bytes of a receive buffer: a WebSocket frame of control data is below 200, an Art-Net universe
/// with the kernel's prefix 574, and an Ethernet packet fits.
const BUFFER_BYTES: u32 = 2048;

/// How long dropping a ring waits for the kernel to let go of its memory.
const FAREWELL: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(10);

/// What a ring can hold. All of it is taken at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Connections that were accepted and are open.
    pub accepted_max: u32,
    /// Listeners, datagram sockets, adopted connections and alarms.
    pub fixed_max: u32,
    /// Receive buffers for streams; a power of two.
    pub stream_buffers: u16,
    /// Receive buffers for datagrams; a power of two.
    pub packet_buffers: u16,
    /// Datagrams on their way out.
    pub datagrams_max: u16,
}

impl Sizes {
    /// Bytes of receive buffers and datagrams on their way out.
    pub fn memory_bytes(&self) -> u64 {
        let received = u64::from(self.stream_buffers) + u64::from(self.packet_buffers);
        (received + u64::from(self.datagrams_max)) * u64::from(BUFFER_BYTES)
    }

    fn files(&self) -> u32 {
        self.fixed_max + self.accepted_max
    }

    /// Operations that fit before a turn's system call: two for each file.
    fn submissions(&self) -> u32 {
        (self.files() * 2).next_power_of_two().clamp(64, 8192)
    }

    /// Answers that fit: more than all buffers, so that a burst ends no multishot receive.
    fn completions(&self) -> u32 {
        let buffers = u32::from(self.stream_buffers) + u32::from(self.packet_buffers);
        ((buffers + self.files()) * 2).next_power_of_two().clamp(self.submissions(), 65_536)
    }
}

/// What the kernel reported.
#[derive(Debug)]
pub enum Event {
    /// `listener` has a new connection. It receives from now on.
    Accepted { listener: Socket, stream: Socket },
    /// A stream's next bytes.
    Received { stream: Socket, lease: Lease },
    /// A stream's peer says no more (`Ok`), or the connection broke.
    Ended { stream: Socket, how: io::Result<()> },
    /// The kernel took all of `buffer`, or will not.
    Sent { stream: Socket, buffer: Buffer, how: io::Result<()> },
    /// The stream is closed; `stream` names nothing from now on.
    Closed { stream: Socket },
    /// One datagram; [`Ring::packet`] reads it.
    Packet { socket: Socket, lease: Lease },
    /// Another thread, or an [`Alarm`], wants this one to look around.
    Woken,
    /// The kernel gave up a listener; [`Ring::accept_again`] tries it anew.
    ListenerLost { listener: Socket, why: io::Error },
}

/// Whether a turn may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Only submits and collects; no system call when there is nothing to do in the kernel.
    No,
    /// Sleeps until something happened, or for this long; `None`: as long as it takes.
    For(Option<Duration>),
}

/// What a ring did so far; only rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// System calls.
    pub enters: u64,
    /// Those that were allowed to sleep.
    pub sleeps: u64,
    /// Answers of the kernel.
    pub answers: u64,
    /// Sends that the kernel took in more than one piece.
    pub short_sends: u64,
    /// Receives that found no free buffer.
    pub starved: u64,
    /// Connections that failed before they were accepted, or found no free file.
    pub accept_faults: u64,
    /// Datagrams that were not sent because too many were on their way.
    pub datagrams_dropped: u64,
    /// Datagrams that the kernel refused to send or receive.
    pub datagram_faults: u64,
    /// Other threads that were woken.
    pub wakes: u64,
}

/// An io_uring and everything the kernel may touch on its behalf.
///
/// It belongs to the thread that made it, and is made after that thread was pinned.
pub struct Ring {
    ring: ManuallyDrop<IoUring>,
    registered: Registered,
    memory: ManuallyDrop<Memory>,
    /// Operations for which the submission queue had no room.
    backlog: VecDeque<squeue::Entry>,
    /// Answers taken from the kernel, and how many of them are handled.
    answers: Vec<cqueue::Entry>,
    handled: usize,
    /// Streams that were closed without waiting for anything.
    closed: Vec<Socket>,
    /// Files whose receive ended although it is wanted.
    listed: Vec<Socket>,
    /// The same, but only once there is a free buffer.
    starved: Vec<Socket>,
    listeners_off: Vec<Socket>,
    /// Where peers are, if that was asked; each at most once.
    peers: VecDeque<(Socket, SocketAddr)>,
    counts: Counts,
    /// A ring accepts operations only from the thread that made it.
    _not_send: PhantomData<*const ()>,
}

/// What must outlive every operation.
struct Memory {
    streams: Pool,
    packets: Pool,
    slots: Slots,
    datagrams: Datagrams,
    /// Event counters stay open while a poll may look at them.
    alarms: Vec<Arc<OwnedFd>>,
}

impl Ring {
    /// Sets up a ring for the calling thread.
    pub fn new(sizes: &Sizes) -> io::Result<Self> {
        let ring = build(sizes)?;
        let registered = Registered::new(&ring)?;
        let memory = ManuallyDrop::new(Memory {
            streams: Pool::new(STREAM_GROUP, sizes.stream_buffers, BUFFER_BYTES),
            packets: Pool::new(PACKET_GROUP, sizes.packet_buffers, BUFFER_BYTES),
            slots: Slots::new(sizes.fixed_max, sizes.accepted_max),
            datagrams: Datagrams::new(sizes.datagrams_max),
            alarms: Vec::with_capacity(sizes.fixed_max as usize),
        });
        let files = sizes.files() as usize;
        let this = Self {
            ring: ManuallyDrop::new(ring),
            registered,
            memory,
            backlog: VecDeque::with_capacity(files * 4),
            answers: Vec::with_capacity(ANSWERS_PER_TURN),
            handled: 0,
            closed: Vec::with_capacity(files),
            listed: Vec::with_capacity(files),
            starved: Vec::with_capacity(files),
            listeners_off: Vec::with_capacity(sizes.fixed_max as usize),
            peers: VecDeque::new(),
            counts: Counts::default(),
            _not_send: PhantomData,
        };
        let submitter = this.ring.submitter();
        submitter
            .register_files_sparse(sizes.files())
            .map_err(|error| too_many_files(sizes, error))?;
        if sizes.accepted_max > 0 {
            enter::accept_into(&this.ring, sizes.fixed_max, sizes.accepted_max)?;
        }
        // SAFETY: both pools live in `memory`, which `drop` frees only after the ring.
        unsafe {
            this.memory.streams.register(&submitter)?;
            this.memory.packets.register(&submitter)?;
        }
        Ok(this)
    }

    /// Accepts on a listening socket from now on.
    pub fn listen(&mut self, socket: OwnedFd) -> io::Result<Socket> {
        let listener = self.register(socket, Role::Listener { armed: true })?;
        self.push_owned(op::accept(listener.tag(Op::Accept)));
        Ok(listener)
    }

    /// Accepts again after [`Event::ListenerLost`]. Not at once: the reason may still be there.
    pub fn accept_again(&mut self, listener: Socket) {
        if matches!(self.memory.slots.role(listener.slot), Role::Listener { armed: false }) {
            self.listeners_off.push(listener);
        }
    }

    /// Receives the datagrams of a bound socket from now on.
    pub fn packets(&mut self, socket: OwnedFd) -> io::Result<Socket> {
        let header = datagram::receive_header();
        let packets = Role::Packets(Packets { receive: Receive::Off, header });
        let socket = self.register(socket, packets)?;
        self.arm_packets(socket);
        Ok(socket)
    }

    /// Takes over a connected stream, and receives from now on.
    ///
    /// It gets the highest free place of [`Sizes::fixed_max`]: next to those of accepted
    /// connections, so that a host can number both in one row.
    pub fn adopt(&mut self, socket: OwnedFd) -> io::Result<Socket> {
        let slot = self.memory.slots.last_vacant();
        let stream = self.register_at(slot, socket, Role::Stream(Stream::new()))?;
        self.list(stream);
        Ok(stream)
    }

    /// Makes something by which any thread can wake this one.
    pub fn alarm(&mut self) -> io::Result<Alarm> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let counter = rustix::event::eventfd(0, flags)?;
        let socket = self.register(counter.try_clone()?, Role::Alarm)?;
        self.push_owned(op::alarm(socket.tag(Op::Alarm)));
        let counter = Arc::new(counter);
        self.memory.alarms.push(Arc::clone(&counter));
        Ok(Alarm { counter })
    }

    /// The number by which other threads' rings wake this one: [`Sleeper::attach`].
    pub fn number(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends a buffer that comes back with [`Event::Sent`]. Only one may be on its way.
    pub fn send(&mut self, stream: Socket, buffer: impl Into<Buffer>) {
        let buffer = buffer.into();
        assert!(!buffer.is_empty(), "nothing to send");
        let Some(state) = self.memory.slots.stream(stream) else {
            panic!("{stream:?} is closed");
        };
        assert!(state.sending.is_none(), "{stream:?} already sends: two sends would overtake");
        state.sending = Some(Sending { buffer, taken: 0 });
        self.send_rest(stream);
    }

    /// Sends one datagram; a copy is taken. Says whether there was room for it.
    pub fn send_to(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8]) -> bool {
        let Some((index, header)) = self.memory.datagrams.fill(to, bytes) else {
            self.counts.datagrams_dropped += 1;
            return false;
        };
        let tag = Tag { op: Op::SendTo, generation: 0, slot: index };
        // SAFETY: `fill` keeps the header and what it points to unchanged until `settle`, which is
        // called when the kernel answered; the slab outlives the ring.
        unsafe { self.push(op::send_to(tag, socket.slot, header)) };
        true
    }

    /// Stops receiving, so that the peer is slowed down by its own full window. Nothing is lost.
    pub fn pause(&mut self, stream: Socket) {
        let Some(state) = self.memory.slots.stream(stream) else { return };
        if std::mem::replace(&mut state.wanted, false) && state.receive == Receive::Armed {
            self.cancel(stream, Op::Receive);
        }
    }

    /// Asks where the peer of `stream` is: [`Ring::next_peer`] tells. Never answered before Linux
    /// 6.8.
    pub fn ask_peer(&mut self, stream: Socket) {
        self.push_owned(op::install(stream.tag(Op::Install)));
    }

    /// A stream whose peer was asked for, and its address.
    pub fn next_peer(&mut self) -> Option<(Socket, SocketAddr)> {
        self.peers.pop_front()
    }

    /// Receives again.
    pub fn resume(&mut self, stream: Socket) {
        let Some(state) = self.memory.slots.stream(stream) else { return };
        state.wanted = !state.closing;
        self.list(stream);
    }

    /// Tells the peer that nothing more will be sent; what it still sends is received.
    pub fn finish(&mut self, stream: Socket) {
        if let Some(state) = self.memory.slots.stream(stream) {
            state.finishing = true;
            self.push_owned(op::shutdown(stream.tag(Op::Shutdown), libc::SHUT_WR));
        }
    }

    /// Gives up a stream. A buffer on its way comes back first, then [`Event::Closed`] follows.
    ///
    /// Closing a file under an armed receive would leave the connection open, without an owner: so
    /// both operations are called back, and the file is closed after their last answers.
    pub fn close(&mut self, stream: Socket) {
        let Some(state) = self.memory.slots.stream(stream) else { return };
        if std::mem::replace(&mut state.closing, true) {
            return;
        }
        state.wanted = false;
        let (receives, sends) = (state.receive == Receive::Armed, state.sending.is_some());
        if receives {
            self.cancel(stream, Op::Receive);
        }
        if sends {
            self.cancel(stream, Op::Send);
        }
        self.release_if_quiet(stream);
    }

    /// Wakes the thread behind `sleeper` if it sleeps. Call it after the last push of a turn.
    pub fn wake(&mut self, sleeper: &Sleeper) {
        if let Some(number) = sleeper.call() {
            self.counts.wakes += 1;
            self.push_owned(op::wake(number));
        }
    }

    /// What a stream received.
    pub fn bytes<'a>(&'a self, lease: &'a Lease) -> &'a [u8] {
        self.memory.streams.bytes(lease)
    }

    /// What a stream received, to be changed in place.
    pub fn bytes_mut<'a>(&'a mut self, lease: &'a mut Lease) -> &'a mut [u8] {
        self.memory.streams.bytes_mut(lease)
    }

    /// Who sent a datagram, and what.
    pub fn packet<'a>(&'a self, lease: &'a Lease) -> Result<(SocketAddr, &'a [u8]), Unreadable> {
        datagram::parse(self.memory.packets.bytes(lease))
    }

    /// Returns a buffer to the kernel. In the turn in which it came: all links share the buffers.
    pub fn give_back(&mut self, lease: Lease) {
        let memory = &mut *self.memory;
        let pool =
            if memory.streams.owns(&lease) { &mut memory.streams } else { &mut memory.packets };
        pool.give_back(lease);
    }

    /// Ends a turn and begins the next: hands over what was asked, waits if allowed, collects
    /// answers.
    ///
    /// At most one system call; none if nothing was asked, nothing is due in the kernel, and `wait`
    /// is `No`. Does not sleep while answers wait to be handled.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.arm_listed();
        self.refill();
        let pending = self.handled < self.answers.len()
            || !self.closed.is_empty()
            || !self.backlog.is_empty()
            || !self.ring.completion().is_empty();
        let queue = self.ring.submission();
        let queued = queue.len() as u32;
        let due = queued > 0 || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        let done = match wait {
            Wait::For(limit) if !pending => {
                self.counts.sleeps += 1;
                self.counts.enters += 1;
                self.registered.sleep(queued, limit)
            }
            _ if due => {
                self.counts.enters += 1;
                self.registered.submit(queued)
            }
            _ => Ok(()),
        };
        self.collect();
        match done {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next thing that happened; `None` ends the turn.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            // Before any answer: the kernel may already have given the file to a new connection.
            if let Some(stream) = self.closed.pop() {
                return Some(Event::Closed { stream });
            }
            let entry = self.answers.get(self.handled)?;
            let (tag, answer) = (Tag::unpack(entry.user_data()), Answer::from(entry));
            self.handled += 1;
            self.counts.answers += 1;
            if let Some(event) = tag.and_then(|tag| self.settle(tag, answer)) {
                return Some(event);
            }
        }
    }

    /// Puts a file into the table and gives it a slot of ours.
    fn register(&mut self, file: OwnedFd, role: Role) -> io::Result<Socket> {
        self.register_at(self.memory.slots.vacant(), file, role)
    }

    fn register_at(&mut self, slot: Option<u32>, file: OwnedFd, role: Role) -> io::Result<Socket> {
        let fixed = self.memory.slots.fixed();
        let Some(slot) = slot else {
            let full = format!("all {fixed} places for our own sockets are taken");
            return Err(io::Error::other(full));
        };
        self.ring.submitter().register_files_update(slot, &[file.as_raw_fd()])?;
        Ok(self.memory.slots.open(slot, role))
    }

    /// Will arm the receive of a stream at the end of the turn, if it is off and wanted.
    fn list(&mut self, stream: Socket) {
        if let Some(state) = self.memory.slots.stream(stream)
            && state.receive == Receive::Off
            && state.wanted
            && !state.ended
        {
            state.receive = Receive::Listed;
            self.listed.push(stream);
        }
    }

    fn starve(&mut self, stream: Socket) {
        if let Some(state) = self.memory.slots.stream(stream) {
            state.receive = Receive::Listed;
            self.starved.push(stream);
        }
    }

    /// Arms what is listed. What starved waits for a free buffer: on an empty pool it would only be
    /// refused again, at once and for ever.
    fn arm_listed(&mut self) {
        while let Some(listener) = self.listeners_off.pop() {
            *self.memory.slots.role(listener.slot) = Role::Listener { armed: true };
            self.push_owned(op::accept(listener.tag(Op::Accept)));
        }
        if self.memory.streams.has_free() && self.memory.packets.has_free() {
            self.listed.append(&mut self.starved);
        }
        while let Some(socket) = self.listed.pop() {
            if matches!(self.memory.slots.role(socket.slot), Role::Packets(_)) {
                self.arm_packets(socket);
                continue;
            }
            let Some(state) = self.memory.slots.stream(socket) else { continue };
            if state.wanted && !state.ended {
                state.receive = Receive::Armed;
                let group = self.memory.streams.group();
                self.push_owned(op::receive(socket.tag(Op::Receive), group));
            } else {
                state.receive = Receive::Off;
            }
        }
    }

    fn arm_packets(&mut self, socket: Socket) {
        let group = self.memory.packets.group();
        let Role::Packets(packets) = self.memory.slots.role(socket.slot) else { return };
        packets.receive = Receive::Armed;
        let header: *const libc::msghdr = &raw const packets.header.0;
        // SAFETY: the header is boxed, is not written after this, and is freed with the slots,
        // which outlive the ring.
        unsafe { self.push(op::receive_from(socket.tag(Op::ReceiveFrom), header, group)) };
    }

    fn send_rest(&mut self, stream: Socket) {
        let Some(Stream { sending: Some(sending), .. }) = self.memory.slots.stream(stream) else {
            return;
        };
        let rest = &sending.buffer.bytes()[sending.taken..];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = op::send(stream.tag(Op::Send), rest.as_ptr(), len);
        // SAFETY: the slot holds the buffer, untouched, until the kernel's answer takes it out
        // again, and slots outlive the ring. An own vector is the slot's alone; moving it does not
        // move its bytes. Of shared bytes the slot holds one count, so that they are neither freed
        // nor, behind an `Rc` of which another may be left, changed.
        unsafe { self.push(entry) };
    }

    fn cancel(&mut self, stream: Socket, op: Op) {
        self.push_owned(op::cancel(stream.tag(Op::Cancel), stream.tag(op)));
    }

    /// Closes the file of a closing stream once nothing is in flight on it.
    fn release_if_quiet(&mut self, stream: Socket) {
        let Some(state) = self.memory.slots.stream(stream) else { return };
        if state.closing && state.is_quiet() {
            self.push_owned(op::close(stream.tag(Op::Close)));
            self.memory.slots.release(stream.slot);
            self.closed.push(stream);
        }
    }

    /// Queues an operation that points to no memory of ours.
    fn push_owned(&mut self, entry: squeue::Entry) {
        // SAFETY: the callers' operations carry a file's number and flags, no address.
        unsafe { self.push(entry) };
    }

    /// Queues an operation; it leaves with the next [`Ring::enter`].
    ///
    /// # Safety
    ///
    /// What `entry` points to must stay valid until the kernel's final answer.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Moves what did not fit into the submission queue.
    fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: whoever queued it promised that its memory lives until the answer.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Takes a bounded number of answers from the kernel, once those before are handled.
    fn collect(&mut self) {
        if self.handled < self.answers.len() {
            return;
        }
        self.answers.clear();
        self.handled = 0;
        self.answers.extend(self.ring.completion().take(ANSWERS_PER_TURN));
    }

    fn any_in_flight(&self) -> bool {
        self.memory.slots.any_in_flight() || self.memory.datagrams.any_in_flight()
    }

    /// Calls every operation back and waits until the kernel let go of all memory.
    fn quiesce(&mut self) -> bool {
        // A send that is called back half done must not go on.
        self.memory.slots.streams().for_each(|stream| stream.closing = true);
        self.hand_over();
        let patience = Timespec::new().sec(FAREWELL.as_secs());
        // Not found is success: nothing was in flight.
        let _ = self.ring.submitter().register_sync_cancel(Some(patience), CancelBuilder::any());
        for _ in 0..FAREWELL.as_millis() / STEP.as_millis() {
            self.collect();
            while let Some(event) = self.next_event() {
                match event {
                    Event::Received { lease, .. } | Event::Packet { lease, .. } => {
                        self.give_back(lease);
                    }
                    _ => {}
                }
            }
            // Without `enter`, nothing of what is listed is armed again.
            if !self.any_in_flight() {
                return true;
            }
            self.hand_over();
            let _ = self.registered.sleep(0, Some(STEP));
        }
        false
    }

    /// Submits all that is queued, so that it can be called back.
    fn hand_over(&mut self) {
        loop {
            self.refill();
            let queued = self.ring.submission().len() as u32;
            if queued == 0 || self.registered.submit(queued).is_err() {
                return;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let quiet = self.quiesce();
        // A ring is taken apart by the kernel later, at its leisure; sockets are to be closed now,
        // so that their ports are free when this returns.
        let _ = self.ring.submitter().unregister_files();
        let _ = self.registered.remove(&self.ring);
        // SAFETY: dropped once, here; nothing uses the ring after it.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if quiet {
            // SAFETY: the ring is gone and nothing was in flight, so the kernel holds no pointer
            // into this memory. Otherwise it is leaked: better lost than written to later.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// Lets any thread wake the one whose ring made this.
#[derive(Clone, Debug)]
pub struct Alarm {
    counter: Arc<OwnedFd>,
}

impl Alarm {
    pub fn ring(&self) {
        // The only failure is a counter near 2^64: then it is raised already.
        let _ = rustix::io::write(&*self.counter, &1_u64.to_ne_bytes());
    }
}

fn build(sizes: &Sizes) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        // Work is done when this thread asks for it; otherwise each arrival interrupts it.
        // Measured:
        // 14.7 µs a hop instead of 24.5.
        .setup_defer_taskrun()
        // Without the flag, polling the queues would never see that work is waiting.
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(sizes.completions());
    builder.build(sizes.submissions()).map_err(|error| {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        match probe::no_ring(error.raw_os_error(), disabled.is_ok_and(|text| text.trim() != "0")) {
            Some(why) => io::Error::new(error.kind(), why),
            None => error,
        }
    })
}

fn too_many_files(sizes: &Sizes, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EMFILE) {
        return error;
    }
    let files = sizes.files();
    io::Error::new(
        error.kind(),
        format!("{files} sockets exceed the limit of open files (ulimit -n)"),
    )
}

/// Whether a turn that ended so is an ordinary turn: time ran out, a signal came, or the kernel
/// wants its answers collected first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}
