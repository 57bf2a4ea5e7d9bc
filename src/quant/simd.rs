//! Running plain loops with the widest instructions that this processor has.

/// Runs `work`, compiled a second time for AVX2 and taken in that form where the processor has it.
///
/// Only what is inlined into `work` profits: mark the functions that it calls `#[inline(always)]`.
///
/// # Numerics
/// Vector instructions round like scalar ones and nothing is fused, so results are the same bits everywhere.
#[inline]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
