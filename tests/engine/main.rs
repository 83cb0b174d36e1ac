//! The engine by hand: one core on a clock that stands, told what a driver tells it, asked what it does.

#[path = "../core/mod.rs"]
mod driven;

mod budget;
mod changeover;
mod close;
mod distribution;
mod hand;
mod isolation;
mod ordered;
mod placement;
mod records;
mod requests;
mod unmapped;
