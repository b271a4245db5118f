//! QEMU's side of `notify_dev`: hears requests for a checkpoint, says that one was committed.

use anyhow::{Result, ensure};
use pmd_tap::Framing;

use super::socket::{Inlet, Stream};

const REQUEST: &[u8] = b"DO_CHECKPOINT";
const COMMIT: &[u8] = b"COLO_CHECKPOINT";

/// The notifier's far end.
#[derive(Debug)]
pub struct Notify {
    stream: Stream,
    inlet: Inlet,
    /// A commit as it goes over the socket.
    commit: Vec<u8>,
    /// Requests heard.
    pub requests: u64,
    /// Commits said.
    pub commits: u64,
}

impl Notify {
    /// On a connected socket. With virtio headers on the data sockets, messages to the comparer have a second word.
    pub fn new(stream: Stream, framing: Framing) -> Self {
        let mut commit = u32::try_from(COMMIT.len()).unwrap_or(0).to_be_bytes().to_vec();
        if framing == Framing::VnetHeader {
            commit.extend([0; 4]);
        }
        commit.extend(COMMIT);
        Self { stream, inlet: Inlet::new(4), commit, requests: 0, commits: 0 }
    }

    /// Reads what there is; whether a request was in it.
    ///
    /// # Errors
    /// When the comparer is gone.
    pub fn hear(&mut self) -> Result<bool> {
        let before = self.requests;
        if self.inlet.fill(&self.stream)? {
            while let Some(message) = self.inlet.next_frame()? {
                self.requests += u64::from(message == REQUEST);
            }
        }
        Ok(self.requests > before)
    }

    /// Says that a checkpoint was committed.
    ///
    /// # Errors
    /// When the comparer is gone, or does not listen.
    pub fn commit(&mut self) -> Result<()> {
        let took = self.stream.send(&self.commit)?;
        ensure!(took == self.commit.len(), "the comparer does not read its notifier");
        self.commits += 1;
        Ok(())
    }
}
