//! The engine by hand: one core on a clock that stands, told what a driver tells it, asked what it does.

#[path = "../core/mod.rs"]
mod driven;

mod budget;
mod close;
mod distribution;
mod hand;
mod isolation;
mod placement;
mod records;
mod requests;
mod unmapped;
