//! The two comparers side by side: QEMU's colo-compare object without a guest, and `colo compare`, on the same kind of
//! sockets, fed the same frames. What they do is recorded and compared; which of them is right is said in the catalogue
//! and in `docs/QEMU_DIFFERENCES.md`, not here.

pub mod catalogue;
pub mod comparer;
pub mod faults;
pub mod play;
pub mod record;
pub mod table;

pub use catalogue::{Entry, entries};
pub use comparer::{Comparer, Kind, Options};
pub use play::{Script, play};
pub use record::{Asked, Record};
