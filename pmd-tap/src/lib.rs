//! Frames in, frames out: poll-mode ports over fixed memory.
//!
//! A [`Port`] moves [`Frame`]s in bursts and never blocks. Frames live in a [`FramePool`] that is mapped once at
//! start; afterwards nothing is allocated. This crate knows neither which VM a frame came from nor what becomes of
//! it: that is the engine's business.
//!
//! All unsafe code of the project is in `sys` modules; everywhere else the compiler refuses it.

#![deny(unsafe_code)]

mod burst;
mod capture;
mod chain;
mod chardev;
mod clock;
mod copy;
mod dpdk;
mod fault;
mod frame;
mod interface;
mod packet;
mod pool;
mod port;
mod prefetch;
mod replay;
mod resident;
#[allow(unsafe_code)]
mod sys;
mod tap;

pub use burst::{BURST_FRAMES, Burst};
pub use capture::{CaptureFile, CapturePort};
pub use chardev::{ChardevPort, ChardevSettings, Endpoint, Framing, LineSocket, MAX_FRAME_BYTES, Role};
pub use clock::{Clock, Nanos};
pub use dpdk::{DpdkAddress, DpdkAddressError, open_dpdk, start_dpdk};
pub use fault::{Fault, FaultCounts, FaultError, FaultPort, FaultSettings, Rate};
pub use frame::{Frame, VirtioHeader};
pub use interface::InterfaceName;
pub use interface::meter::LossMeter;
pub use packet::{PacketPort, PacketSettings, Reach, Sharing};
pub use pool::{FramePool, PoolError, PoolSettings};
pub use port::{Caps, LinkEvent, Losses, Port, PortError, RxState};
pub use prefetch::{prefetch, prefetch_lines};
pub use replay::{
    Capture, CaptureError, CaptureWriter, CapturedFrame, CommentedFrame, Former, PcapngWriter, ReplayPort,
    RotatingWriter, Rotation,
};
pub use resident::{Pages, make_resident};
pub use tap::{Lifetime, TapPort, TapSettings};
