//! Running plain loops with the widest instructions that this processor has.

/// Runs `work`, compiled a second time for AVX2 and taken in that form where the processor has it.
///
/// Only what is inlined takes part: write the closure as `widest(#[inline(always)] || ..)` (without the attribute a long one
/// stays a function of its own, compiled for none of them), and mark the functions it calls the same way. Loops by iterators
/// have no bounds checks, which would keep them scalar.
///
/// # Numerics
/// Vector instructions round like scalar ones and only what is written as fused is, so results are the same bits everywhere.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
