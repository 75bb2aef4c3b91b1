//! Where the blocks of a file are, by extents.
//!
//! | file | what |
//! |---|---|
//! | [`status`] | what is known already |
//! | [`read`] | looking it up in the tree |

pub mod read;
pub mod status;
