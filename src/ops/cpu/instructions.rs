//! Which vector instructions the CPU's kernels run on.

/// The widest vector instructions that products of matrices and plain loops use on this processor, chosen when the
/// program starts: `AVX-512`, `AVX2`, `NEON`, or `scalar`.
///
/// # Numerics
/// Products add their terms in another order for each, so that the last bits of a run differ between them.
pub fn instruction_set() -> &'static str {
    match pulp::Arch::new() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V4(_) => "AVX-512",
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V3(_) => "AVX2",
        _ if cfg!(target_arch = "aarch64") => "NEON",
        _ => "scalar",
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// What the standard library finds, so that a build without the wide kernels is seen on a processor that has them.
    #[test]
    fn the_widest_instructions_of_the_processor_are_used() {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        let wide = wide && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq");
        let want = match wide {
            true => "AVX-512",
            false if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => "AVX2",
            false => "scalar",
        };
        println!("{want}");
        assert_eq!(instruction_set(), want);
    }
}
