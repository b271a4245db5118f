//! QEMU's socket framing, unix and TCP, connect and listen.

/// Longest legal frame on a QEMU socket, virtio header included, bytes.
pub const MAX_FRAME_BYTES: usize = 69_632;
