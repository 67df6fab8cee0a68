//! Conversations: whole, byte by byte, and with a real server.

mod accept;
mod dial;
mod fetch;
mod real;
mod relay;
