//! `colo explain`: a diverged file as people read it. It reads what `diverged` wrote, decodes the frames once more, and
//! says in a sentence what happened. Nothing here is used while frames are compared.

mod decode;
mod dump;
mod file;
mod sentence;
mod view;

pub use dump::Style;
pub use file::{Entry, ExplainError, Explained, read};
pub use view::{to_json, to_text};
