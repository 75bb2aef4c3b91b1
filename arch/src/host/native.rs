//! What only this architecture has.
