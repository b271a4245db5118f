//! The world as its user sees it: start it on three sockets, take checkpoints, watch it, get the report. It knows
//! nothing of the engine at the other ends.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::event_loop::{Command, EventLoop};
use super::totals::{Totals, WorldProgress, WorldReport};

/// What a world is like.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    /// Decides sizes, order, sequence numbers, divergence: everything but the passing of time.
    pub seed: u64,
    /// Concurrent client connections.
    pub flows: usize,
    /// Probability, 0–1, that the secondary's answer to a request has a wrong byte.
    pub diverge: f64,
    /// Requests per second in total; as fast as answers come when `None` or not positive.
    pub rate: Option<f64>,
    /// After this the client asks no more.
    pub duration: Duration,
}

/// The world's ends of three socket pairs, each with QEMU's framing (big-endian `u32` length, then an Ethernet
/// frame). The world makes them non-blocking.
#[derive(Debug)]
pub struct WorldLinks {
    /// The primary's output, for the engine's primary input.
    pub primary_out: UnixStream,
    /// The secondary's output, for the engine's secondary input.
    pub secondary_out: UnixStream,
    /// The client's input, from the engine's output.
    pub client_in: UnixStream,
}

/// What a checkpoint took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Live connections that were copied.
    pub connections: usize,
    /// How long the copying took.
    pub copying: Duration,
}

/// The world has ended: there is nothing left to pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the demo's guests have ended")]
pub struct WorldEnded;

/// Starts worlds.
#[derive(Debug)]
pub struct World;

impl World {
    /// Starts a world in a thread of its own. The client asks at once, so the engine should be there soon.
    pub fn spawn(settings: &WorldSettings, links: WorldLinks) -> io::Result<WorldHandle> {
        let totals = Arc::new(Totals::default());
        let (commands, received) = channel();
        let (bell, alarm) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let (settings, shared) = (settings.clone(), Arc::clone(&totals));
        let (started, start) = sync_channel(1);
        // The loop is built in its thread: smoltcp's stacks and shared packets are not Send.
        let thread = std::thread::Builder::new().name("colo-demo".into()).spawn(move || {
            match EventLoop::new(&settings, links, received, alarm, shared) {
                Ok(world) => {
                    drop(started);
                    world.run()
                }
                Err(error) => {
                    // Whoever started us waits for this; if not, there is nobody to tell.
                    let _ = started.send(error);
                    WorldReport::default()
                }
            }
        })?;
        match start.recv() {
            Ok(error) => Err(error),
            Err(_) => Ok(WorldHandle {
                checkpointer: Checkpointer { commands, bell: Arc::new(bell) },
                totals,
                thread,
            }),
        }
    }
}

/// A running world. When the handle and all its checkpointers are dropped, the world ends at once.
#[derive(Debug)]
pub struct WorldHandle {
    checkpointer: Checkpointer,
    totals: Arc<Totals>,
    thread: JoinHandle<WorldReport>,
}

impl WorldHandle {
    /// Something that takes checkpoints, for the engine's back end.
    pub fn checkpointer(&self) -> Checkpointer {
        self.checkpointer.clone()
    }

    /// The counters now; costs some loads.
    pub fn progress(&self) -> WorldProgress {
        self.totals.progress()
    }

    /// Descriptions of the first client errors so far.
    pub fn errors(&self) -> Vec<String> {
        self.totals.errors()
    }

    /// Ends the world as if its time were over: no more requests from now on.
    pub fn stop(&self) {
        self.checkpointer.tell(Command::Stop);
    }

    /// True when [`Self::finish`] would not wait.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the world's time, then up to 6 s for outstanding answers (what is missing then is
    /// lost, and an error), and gives the report. Checkpoints go on meanwhile and the engine must go on forwarding;
    /// the sockets are closed when this returns. Do not hold a [`Paused`] in the calling thread.
    pub fn finish(self) -> WorldReport {
        self.thread.join().unwrap_or_else(|_| WorldReport {
            totals: self.totals.progress(),
            errors: self.totals.errors(),
            broken_link: Some("the demo's thread panicked".into()),
        })
    }
}

/// Takes checkpoints of a world. Clones share it; pauses do not overlap, a second one waits for the first's end.
///
/// Why nothing of the new epoch can get into the old one, or the other way round:
///
/// * Guest frames come from steps of the guests only, and the thread that steps them is the one that pauses. From
///   the pause to the resumption no guest is stepped: not by input (it is queued), not by a timer.
/// * [`Checkpointer::pause`] returns only when every byte of every frame sent before has been taken by the kernel,
///   on both sockets. So a reader that reads both until they would block after `pause` returned has all of the old
///   epoch, to the last whole frame, and nothing else.
/// * [`Paused::resume`] comes after the engine has taken its boundary; the first frame of the new epoch is written
///   after that.
/// * The secondary's frames sent before the pause are old too: its state is thrown away at the pause, and the copy
///   has sent nothing yet (what the replay sends is discarded, the primary has already sent it).
/// * Client packets are given to both guests in one order; those a paused primary has not looked at are part of the
///   copy, so both continue with the same input.
///
/// The guests' clocks run on during a pause, as those of a guest without paravirtual time do: timers that fall into it
/// fire at the resumption. The client goes on too; what it sends waits, up to a bound of 65,536 packets, beyond which
/// packets are lost for both guests alike, counted, and sent again by TCP.
#[derive(Clone)]
pub struct Checkpointer {
    commands: Sender<Command>,
    bell: Arc<UnixStream>,
}

impl fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer").finish_non_exhaustive()
    }
}

impl Checkpointer {
    /// First phase: blocks until both guests stand still, all their frames are in the sockets, and the secondary is
    /// the primary's copy. The engine must go on reading both sockets meanwhile. The guests stand still until the
    /// result is resumed or dropped.
    pub fn pause(&self) -> Result<Paused, WorldEnded> {
        let (reply, answer) = sync_channel(1);
        self.tell(Command::Pause(reply));
        let report = answer.recv().map_err(|_| WorldEnded)?;
        Ok(Paused { checkpointer: self.clone(), report })
    }

    fn tell(&self, command: Command) {
        // A world that has ended takes no commands; a bell that is full is ringing already.
        if self.commands.send(command).is_ok() {
            let _ = (&*self.bell).write(&[1]);
        }
    }
}

/// A world whose guests stand still; dropping it lets them run on.
#[derive(Debug)]
pub struct Paused {
    checkpointer: Checkpointer,
    report: CheckpointReport,
}

impl Paused {
    /// What the checkpoint took.
    pub fn report(&self) -> CheckpointReport {
        self.report
    }

    /// Second phase, after the engine has taken the epoch boundary: the guests run on.
    pub fn resume(self) {}
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.checkpointer.tell(Command::Resume);
    }
}
