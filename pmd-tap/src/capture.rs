//! A port that writes down what crosses it: copies go to a bounded queue, and from there into a pcapng file by whoever has
//! the [`CaptureFile`]. Frames go on as they are, and nobody waits for a disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::port::as_inside;
use crate::{
    Burst, CaptureError, CommentedFrame, Former, Frame, FramePool, Nanos, PoolError, PoolSettings, Port,
    RotatingWriter, Rotation, RxState,
};

/// Copies that wait for the file, of all ports together.
const WAITING: usize = 16_384;
/// Memory for the copies of one port.
const COPIES: PoolSettings = PoolSettings { small: 4_096, mtu: 4_096, jumbo: 256, gso: 64 };
/// Bytes that are written at once.
const GROUP_BYTES: u64 = 1 << 20;

/// A copy, and at which port it was made.
#[derive(Debug)]
struct Copied {
    interface: u32,
    at: Nanos,
    frame: Frame,
}

#[derive(Debug)]
struct Tray {
    waiting: ArrayQueue<Copied>,
    /// Frames that were not written down: the file was behind.
    skipped: AtomicU64,
}

/// The file, and what waits for it.
#[derive(Debug)]
pub struct CaptureFile {
    writer: RotatingWriter,
    tray: Arc<Tray>,
    /// Ports that were given out.
    ports: u32,
    written: u64,
}

impl CaptureFile {
    /// Makes the file, with an interface of that name for each port that is to be wrapped. Files of a former run move on, as
    /// at a rotation.
    ///
    /// # Errors
    /// [`CaptureError::Create`].
    pub fn create(
        path: impl AsRef<Path>,
        application: &str,
        ports: &[&str],
        rotation: Rotation,
    ) -> Result<Self, CaptureError> {
        let writer = RotatingWriter::create(path, application, ports, rotation, Former::Keep)?;
        let tray = Arc::new(Tray { waiting: ArrayQueue::new(WAITING), skipped: AtomicU64::new(0) });
        Ok(Self { writer, tray, ports: 0, written: 0 })
    }

    /// A port whose frames are written down under the next of the names.
    ///
    /// # Errors
    /// [`PoolError`] when there is no memory for copies.
    pub fn wrap<P: Port>(&mut self, inner: P) -> Result<CapturePort<P>, PoolError> {
        let interface = self.ports;
        self.ports += 1;
        Ok(CapturePort {
            inner,
            interface,
            tray: Arc::clone(&self.tray),
            copies: FramePool::new(COPIES)?,
            sending: Burst::new(),
        })
    }

    /// Writes what waits. `epoch` is the time of the day at which the engine's clock read zero, since 1970.
    ///
    /// # Errors
    /// [`CaptureError::Write`]; what could not be written is counted as skipped.
    pub fn write_waiting(&mut self, epoch: Duration) -> Result<(), CaptureError> {
        let epoch_ns = u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX);
        // No more than is there now, so that traffic without end cannot keep anybody here.
        let mut left = self.tray.waiting.len();
        while left > 0 {
            let mut group = 0;
            while left > 0 && self.writer.pending() < GROUP_BYTES {
                left -= 1;
                let Some(Copied { interface, at: Nanos(at), frame }) = self.tray.waiting.pop() else { break };
                let bytes = frame.ethernet();
                self.writer.add(&CommentedFrame {
                    interface,
                    timestamp_ns: epoch_ns.saturating_add(at),
                    bytes,
                    original_len: bytes.len(),
                    comment: "",
                });
                group += 1;
            }
            self.writer.commit().inspect_err(|_| {
                self.tray.skipped.fetch_add(group, Ordering::Relaxed);
            })?;
            self.written += group;
        }
        Ok(())
    }

    /// Frames written, those in files that are gone included.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Frames that are not, because the file was behind or could not be written.
    pub fn skipped(&self) -> u64 {
        self.tray.skipped.load(Ordering::Relaxed)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }
}

/// A port whose frames are written down, received and sent, without virtio headers.
#[derive(Debug)]
pub struct CapturePort<P> {
    inner: P,
    interface: u32,
    tray: Arc<Tray>,
    copies: FramePool,
    /// Copies of what is being sent.
    sending: Burst,
}

impl<P> CapturePort<P> {
    fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.copies.frame_from(frame.bytes())?;
        copy.set_virtio_header(frame.virtio_header());
        Some(copy)
    }

    fn hand_in(&mut self, copy: Option<Frame>, at: Nanos) {
        let Some(frame) = copy else {
            self.tray.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let copied = Copied { interface: self.interface, at, frame };
        if let Err(copied) = self.tray.waiting.push(copied) {
            self.tray.skipped.fetch_add(1, Ordering::Relaxed);
            self.copies.recycle(copied.frame);
        }
    }
}

impl<P: Port> Port for CapturePort<P> {
    fn rx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) -> RxState {
        let before = burst.len();
        let state = self.inner.rx_burst(pool, now, burst);
        for frame in burst.get(before..).unwrap_or_default() {
            let copy = self.copy(frame);
            self.hand_in(copy, now);
        }
        state
    }

    fn tx_burst(&mut self, pool: &mut FramePool, now: Nanos, burst: &mut Burst) {
        // Copied before they go, for afterwards they are gone; how many have gone is known then.
        for frame in burst.iter() {
            let Some(copy) = self.copy(frame) else { break };
            self.sending.push(copy);
        }
        let before = burst.len();
        self.inner.tx_burst(pool, now, burst);
        let mut copies = std::mem::take(&mut self.sending).into_iter();
        for _ in 0..before - burst.len() {
            let copy = copies.next();
            self.hand_in(copy, now);
        }
        copies.for_each(|copy| self.copies.recycle(copy));
    }

    fn flush(&mut self) -> bool {
        self.inner.flush()
    }

    fn is_over(&self) -> bool {
        self.inner.is_over()
    }

    as_inside!(self => self.inner);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Caps, Capture, ChardevPort, Framing};

    const ROTATION: Rotation = Rotation { max_bytes: 1 << 30, files: 1 };

    #[test]
    fn what_crosses_is_in_the_file_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.pcapng");
        let mut file = CaptureFile::create(&path, "colo", &["near", "far"], ROTATION).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = file.wrap(ChardevPort::from_stream(near, Framing::Plain, "near")).unwrap();
        let mut far = file.wrap(ChardevPort::from_stream(far, Framing::Plain, "far")).unwrap();
        let mut pool = FramePool::new(PoolSettings { small: 64, mtu: 8, jumbo: 1, gso: 1 }).unwrap();
        let mut burst = Burst::new();
        for len in [60, 1_514] {
            burst.push(pool.frame_from(&vec![7; len]).unwrap());
        }
        near.tx_burst(&mut pool, Nanos(5), &mut burst);
        assert!(near.flush() && burst.is_empty() && near.caps() == Caps::default());
        far.rx_burst(&mut pool, Nanos(9), &mut burst);
        assert_eq!(burst.len(), 2, "frames go on");
        file.write_waiting(Duration::from_secs(1)).unwrap();
        assert_eq!((file.written(), file.skipped()), (4, 0));
        let read: Vec<_> = Capture::open(&path).unwrap().map(Result::unwrap).collect();
        let seen: Vec<_> = read.iter().map(|one| (one.timestamp_ns, one.bytes.len())).collect();
        let second = 1_000_000_000;
        assert_eq!(seen, [(second + 5, 60), (second + 5, 1_514), (second + 9, 60), (second + 9, 1_514)]);
    }

    #[test]
    fn a_full_capture_goes_on_in_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.pcapng");
        let rotation = Rotation { max_bytes: 4_000, files: 2 };
        let mut file = CaptureFile::create(&path, "colo 1", &["out"], rotation).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let mut port = file.wrap(ChardevPort::from_stream(near, Framing::Plain, "out")).unwrap();
        let mut pool = FramePool::new(PoolSettings { small: 0, mtu: 1, jumbo: 0, gso: 0 }).unwrap();
        for number in 0..10 {
            let mut burst = Burst::new();
            burst.push(pool.frame_from(&[number; 1_000]).unwrap());
            port.tx_burst(&mut pool, Nanos::ZERO, &mut burst);
            file.write_waiting(Duration::ZERO).unwrap();
        }
        assert_eq!((file.written(), file.skipped()), (10, 0));
        let first_bytes = |path: &Path| -> Vec<u8> {
            Capture::open(path).unwrap().map(|frame| frame.unwrap().bytes[0]).collect()
        };
        let kept = [directory.path().join("c.1.pcapng"), path].map(|path| first_bytes(&path));
        assert_eq!(kept, [vec![6, 7, 8], vec![9]]);
    }

    #[test]
    fn what_did_not_go_is_not_written_and_a_full_tray_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut file =
            CaptureFile::create(directory.path().join("c.pcapng"), "colo", &["out"], ROTATION).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let mut port = file.wrap(ChardevPort::from_stream(near, Framing::Plain, "out")).unwrap();
        let mut pool = FramePool::new(PoolSettings { small: 0, mtu: 0, jumbo: 0, gso: 64 }).unwrap();
        let mut burst = Burst::new();
        let mut gone = 0;
        // The other end reads nothing, so at some point nothing more goes, again and again.
        for _ in 0..200 {
            while !burst.is_full() {
                burst.push(pool.frame_from(&vec![1; 60_000]).unwrap());
            }
            port.tx_burst(&mut pool, Nanos(1), &mut burst);
            gone += 32 - u64::try_from(burst.len()).unwrap();
        }
        file.write_waiting(Duration::ZERO).unwrap();
        assert_eq!(file.written() + file.skipped(), gone);
        assert!(gone < 64 && file.skipped() == 0, "{gone}");
        // More than the tray has room for, without anybody who writes.
        let frame = pool.frame_from(&[2; 60]);
        let frame = frame.unwrap_or_else(|| burst.pop().unwrap());
        for _ in 0..20_000 {
            let copy = port.copy(&frame);
            port.hand_in(copy, Nanos(2));
        }
        assert!(file.skipped() > 0);
        let skipped = file.skipped();
        file.write_waiting(Duration::ZERO).unwrap();
        assert_eq!(file.written() + skipped, gone + 20_000);
    }
}
