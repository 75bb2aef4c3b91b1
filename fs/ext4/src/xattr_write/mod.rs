//! Changing extended attributes.
//!
//! | what | module |
//! |---|---|
//! | those behind the fields of an inode | [`body`] |
//! | those in a block | [`block`] |
//! | a list of them, from and to both | [`list`] |

pub mod block;
pub mod body;
pub mod list;
