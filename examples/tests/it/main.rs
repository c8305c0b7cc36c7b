//! Whole parts against real counterparts, in one binary.

mod cashu;
mod cashu_node;
mod wallet;
