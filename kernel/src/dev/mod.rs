//! Character devices of the kernel proper: random numbers and the log.
