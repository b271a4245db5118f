//! The listening end: a thread that reads one order at a time and waits for the outcome.
//!
//! A client that is slow or talks nonsense costs itself a bounded time; orders wait for the engine's first thread, which takes
//! them when it looks.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{ORDER_BYTES, Order, Outcome, to_line};

/// Owner only: whoever may open the socket may stop the comparison.
const PERMISSIONS: u32 = 0o600;
/// Longest time for an order to arrive, and for its outcome to leave.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest time from an order to its outcome.
const OUTCOME: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection.
const BREATH: Duration = Duration::from_millis(50);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// somebody else has the path
    #[error("cannot listen on {}: a running colo has it; choose another with --ctl PATH", .0.display())]
    Taken(PathBuf),
    /// the path cannot be used
    #[error("cannot listen on {}: {reason}; choose another with --ctl PATH, or --ctl off", path.display())]
    Bind {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
}

/// An order that waits for its outcome.
#[derive(Debug)]
pub struct Pending {
    /// What is wanted.
    pub order: Order,
    reply: SyncSender<Outcome>,
}

impl Pending {
    /// Says what became of it.
    pub fn answer(self, outcome: Outcome) {
        // Who asked may have gone.
        let _ = self.reply.send(outcome);
    }
}

/// A listening socket; it goes away when this is dropped.
#[derive(Debug)]
pub struct CtlServer {
    path: PathBuf,
    orders: Receiver<Pending>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CtlServer {
    /// Listens on a path that only the owner may open. What a dead engine left there is replaced.
    pub fn start(path: &Path) -> Result<Self, CtlError> {
        let failed = |reason| CtlError::Bind { path: path.to_owned(), reason };
        if UnixStream::connect(path).is_ok() {
            return Err(CtlError::Taken(path.to_owned()));
        }
        remove_socket(path);
        let listener = bind(path).map_err(failed)?;
        let (sender, orders) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("colo-ctl".to_owned())
            .spawn(move || serve(&listener, &sender, &stopped))
            .map_err(failed)?;
        Ok(Self { path: path.to_owned(), orders, stop, thread: Some(thread) })
    }

    /// The next order, waiting for it so long at most.
    pub fn next(&self, wait: Duration) -> Option<Pending> {
        match self.orders.recv_timeout(wait) {
            Ok(pending) => Some(pending),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(wait);
                None
            }
        }
    }
}

impl Drop for CtlServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread from `accept`; what it has for us is refused.
        let woken = UnixStream::connect(&self.path).is_ok();
        while let Ok(pending) = self.orders.try_recv() {
            pending.answer(Err("colo is ending".to_owned()));
        }
        remove_socket(&self.path);
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

/// A socket that nobody else can open at any time: it gets its name when it has its permissions.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let made = PathBuf::from(name);
    let listener = UnixListener::bind(&made)?;
    let named = fs::set_permissions(&made, fs::Permissions::from_mode(PERMISSIONS))
        .and_then(|()| fs::rename(&made, path));
    if let Err(error) = named {
        remove_socket(&made);
        return Err(error);
    }
    Ok(listener)
}

/// Removes a socket, and nothing that is none.
fn remove_socket(path: &Path) {
    use std::os::unix::fs::FileTypeExt;
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // If it stays, binding says so.
        let _ = fs::remove_file(path);
    }
}

fn serve(listener: &UnixListener, orders: &SyncSender<Pending>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) if !stop.load(Ordering::Acquire) => {
                // Who went away without an answer does not want it.
                let _ = converse(stream, orders);
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(BREATH),
        }
    }
}

fn converse(mut stream: UnixStream, orders: &SyncSender<Pending>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    let outcome = match BufReader::new((&stream).take(ORDER_BYTES)).read_line(&mut line) {
        Ok(_) => serde_json::from_str(&line)
            .map_err(|error| format!("not an order: {error}"))
            .and_then(|order| hand_over(order, orders)),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err("not an order: no UTF-8".to_owned()),
        Err(error) => return Err(error),
    };
    stream.write_all(to_line(&outcome).as_bytes())
}

/// To the thread that has the engine, and back.
fn hand_over(order: Order, orders: &SyncSender<Pending>) -> Outcome {
    let (reply, outcome) = sync_channel(1);
    let ending = || "colo is ending".to_owned();
    orders.send(Pending { order, reply }).map_err(|_| ending())?;
    match outcome.recv_timeout(OUTCOME) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err("the engine does not answer".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err(ending()),
    }
}
