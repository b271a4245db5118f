//! colo beside QEMU.
