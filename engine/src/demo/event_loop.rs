//! The world's one thread: client, primary and secondary take turns, then it sleeps until a socket or a timer
//! wants something. Here is what a checkpoint means for the world, and nothing of what the engine does with it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::parse;
use super::client::Client;
use super::codec::{Filled, FrameReader, FrameWriter, Padding};
use super::side::{GuestSide, Role};
use super::stack::{Micros, Packet};
use super::totals::{Totals, WorldReport};
use super::world::{CheckpointReport, WorldLinks, WorldSettings};

/// How long the world waits for outstanding answers after its time, µs.
const GRACE: Micros = 6_000_000;

/// Reads of the client's socket in one turn, at most: the guests must get theirs.
const READS_PER_TURN: usize = 4;

/// How often the secondary's orphans are looked for, µs.
const SWEEP: Micros = 200_000;

/// What other threads ask of the world.
pub(super) enum Command {
    /// Stop the guests, copy, and say so.
    Pause(SyncSender<CheckpointReport>),
    /// Let them run on.
    Resume,
    /// End as if the time were over.
    Stop,
}

/// What the guests are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guests {
    /// Running.
    Running,
    /// Stopped; what they have sent is on its way into the sockets.
    Draining,
    /// Stopped, drained, copied: a checkpoint is being taken.
    Paused,
}

/// The loop's state.
pub(super) struct EventLoop {
    start: Instant,
    stop_at: Micros,
    finishing: Option<Micros>,
    swept_at: Micros,
    guests: Guests,
    pauses: VecDeque<SyncSender<CheckpointReport>>,
    commands: Receiver<Command>,
    alarm: UnixStream,
    primary: GuestSide,
    secondary: GuestSide,
    client: Client,
    primary_out: FrameWriter,
    secondary_out: FrameWriter,
    client_in: FrameReader,
    totals: Arc<Totals>,
}

impl EventLoop {
    /// A world at time 0. `alarm` becomes readable when a command was sent.
    pub(super) fn new(
        settings: &WorldSettings,
        links: WorldLinks,
        commands: Receiver<Command>,
        alarm: UnixStream,
        totals: Arc<Totals>,
    ) -> io::Result<Self> {
        alarm.set_nonblocking(true)?;
        let diverge = settings.diverge;
        Ok(Self {
            start: Instant::now(),
            stop_at: u64::try_from(settings.duration.as_micros()).unwrap_or(u64::MAX),
            finishing: None,
            swept_at: 0,
            guests: Guests::Running,
            pauses: VecDeque::new(),
            commands,
            alarm,
            primary: GuestSide::new(Role::Primary, settings.seed),
            secondary: GuestSide::new(Role::Secondary { diverge }, settings.seed),
            client: Client::new(settings.seed, settings.flows, settings.rate, Arc::clone(&totals)),
            primary_out: FrameWriter::new(links.primary_out, Padding::Minimum)?,
            secondary_out: FrameWriter::new(links.secondary_out, Padding::None)?,
            client_in: FrameReader::new(links.client_in)?,
            totals,
        })
    }

    /// Runs to the end of the world.
    pub(super) fn run(mut self) -> WorldReport {
        let broken_link = loop {
            match self.turn() {
                Ok(Some(())) => break None,
                Ok(None) => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        self.client.give_up();
        WorldReport { totals: self.totals.progress(), errors: self.totals.errors(), broken_link }
    }

    /// One turn; `Some` at the end of the world.
    fn turn(&mut self) -> io::Result<Option<()>> {
        let now = self.now();
        if self.take_commands(now).is_some() {
            return Ok(Some(()));
        }
        self.finish_in_time(now);
        self.read_client(now)?;
        self.run_client(now);
        if self.guests == Guests::Running {
            self.run_guests(now);
        }
        self.primary_out.flush()?;
        self.secondary_out.flush()?;
        let drained = self.primary_out.backlog() + self.secondary_out.backlog() == 0;
        if self.guests == Guests::Draining && drained {
            self.copy_guest();
        }
        let late = self.finishing.is_some_and(|at| now >= at.saturating_add(GRACE));
        let done = self.finishing.is_some() && self.client.is_done() && drained;
        if (done || late) && self.guests == Guests::Running {
            return Ok(Some(()));
        }
        self.sleep()?;
        Ok(None)
    }

    fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Does what was asked; `Some` when there is nobody left who could ask or see.
    fn take_commands(&mut self, now: Micros) -> Option<()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Pause(reply)) => self.pauses.push_back(reply),
                Ok(Command::Resume) => {
                    if self.guests == Guests::Paused {
                        self.guests = Guests::Running;
                    }
                }
                Ok(Command::Stop) => self.stop_at = self.stop_at.min(now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Some(()),
            }
        }
        // A pause that comes while another is on waits for that one's end.
        if self.guests == Guests::Running && !self.pauses.is_empty() {
            self.guests = Guests::Draining;
        }
        None
    }

    fn finish_in_time(&mut self, now: Micros) {
        if self.finishing.is_none() && now >= self.stop_at {
            self.finishing = Some(now);
            self.client.finish(now);
        }
    }

    fn read_client(&mut self, now: Micros) -> io::Result<()> {
        let (primary, secondary, totals) = (&mut self.primary, &mut self.secondary, &self.totals);
        let mut emit = |packet: &[u8]| mirror(packet, primary, secondary, totals, now);
        for _ in 0..READS_PER_TURN {
            match self.client_in.fill()? {
                Filled::Nothing => break,
                Filled::Some => {}
                Filled::End => return Err(io::Error::other("the engine closed the client's link")),
            }
            while let Some(frame) = self.client_in.next_frame()? {
                totals.frames_client.add(1);
                self.client.receive(frame, now, &mut emit);
            }
        }
        Ok(())
    }

    fn run_client(&mut self, now: Micros) {
        let (primary, secondary, totals) = (&mut self.primary, &mut self.secondary, &self.totals);
        self.client.run(now, &mut |packet| mirror(packet, primary, secondary, totals, now));
    }

    fn run_guests(&mut self, now: Micros) {
        let work = self.primary.run(now, &mut self.primary_out);
        self.totals.frames_primary.add(work.frames);
        let work = self.secondary.run(now, &mut self.secondary_out);
        self.totals.frames_secondary.add(work.frames);
        self.totals.diverged.add(work.diverged);
        if now >= self.swept_at + SWEEP {
            self.swept_at = now;
            self.secondary.forget_orphans(&self.primary);
        }
    }

    /// The checkpoint itself: the guests stand still, all they sent is with the engine, the secondary becomes the
    /// primary's copy.
    fn copy_guest(&mut self) {
        let Some(reply) = self.pauses.pop_front() else {
            return;
        };
        let started = Instant::now();
        let connections = self.secondary.become_copy_of(&self.primary);
        self.totals.checkpoints.add(1);
        // Whoever asked and went away gets no pause.
        let report = CheckpointReport { connections, copying: started.elapsed() };
        self.guests = if reply.send(report).is_ok() { Guests::Paused } else { Guests::Running };
    }

    /// Until a timer is due, a socket has something or takes something, or a command comes.
    fn sleep(&self) -> io::Result<()> {
        let mut until = self.client.next_due();
        until = until.min(self.finishing.map_or(self.stop_at, |at| {
            // The world does not end while it is paused.
            if self.guests == Guests::Running { at.saturating_add(GRACE) } else { Micros::MAX }
        }));
        if self.guests == Guests::Running {
            let ready = |side: &GuestSide, out: &FrameWriter| {
                if out.is_full() { Micros::MAX } else { side.next_due() }
            };
            until = until.min(ready(&self.primary, &self.primary_out));
            until = until.min(ready(&self.secondary, &self.secondary_out));
        }
        let left = until.saturating_sub(self.now());
        if left == 0 {
            return Ok(());
        }
        let mut fds = Vec::with_capacity(4);
        fds.push(PollFd::new(&self.alarm, PollFlags::IN));
        fds.push(PollFd::new(self.client_in.stream(), PollFlags::IN));
        for out in [&self.primary_out, &self.secondary_out] {
            if out.backlog() > 0 {
                fds.push(PollFd::new(out.stream(), PollFlags::OUT));
            }
        }
        // An hour is for ever here, and always representable.
        let left = left.min(3_600_000_000);
        let seconds = i64::try_from(left / 1_000_000).unwrap_or(0);
        let nanos = i64::try_from(left % 1_000_000 * 1_000).unwrap_or(0);
        match poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: nanos })) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        if !fds[0].revents().is_empty() {
            self.silence_alarm();
        }
        Ok(())
    }

    fn silence_alarm(&self) {
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut &self.alarm, &mut bytes), Ok(1..)) {}
    }
}

/// Gives a client's packet to both guests, or to neither.
fn mirror(packet: &[u8], primary: &mut GuestSide, secondary: &mut GuestSide, totals: &Totals, now: Micros) {
    let Some(header) = parse(packet) else { return };
    if !(primary.has_room() && secondary.has_room()) {
        totals.client_frames_dropped.add(1);
        return;
    }
    let packet = Packet::from(packet);
    primary.deliver(&packet, &header, now);
    secondary.deliver(&packet, &header, now);
}
