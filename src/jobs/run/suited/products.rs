//! What the factors of products are rounded to.

use crate::device::Devices;
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::settings::RunSettings;
use crate::ops;
use crate::recipe::{AutoDtype, Recipe};
use crate::weights::HostDtype;

/// The recipe with bf16 as `model.compute_dtype` where that says `auto`, the processor alone computes, it has an instruction for
/// such products, and the base is not held in f32. Written down, it is part of the run: elsewhere the run goes on with the
/// same products, made of f32 ones.
///
/// A run that `is_begun` goes on with what it began with: an `auto` that was written down there is f32 on every processor.
///
/// Other devices take what each multiplies fastest.
pub fn multiply(recipe: &Recipe, frozen: &Frozen, devices: &Devices, is_begun: bool) -> Recipe {
    let mut recipe = recipe.clone();
    let on_cpu = devices.all().all(|compute| compute.is_cpu());
    let here = on_cpu && !is_begun && ops::cpu_multiplies_bf16();
    let is_f32 = frozen.has_f32(&RunSettings::of(&recipe).holding);
    if let Some(dtype) = chosen(recipe.model.compute_dtype.0, here, is_f32) {
        recipe.model.compute_dtype = AutoDtype(Some(dtype));
        recipe.remark("model.compute_dtype", "what this processor multiplies fastest");
    }
    recipe
}

/// What to round to where nothing was `asked` for.
fn chosen(asked: Option<HostDtype>, is_fast: bool, is_f32: bool) -> Option<HostDtype> {
    (asked.is_none() && is_fast && !is_f32).then_some(HostDtype::BF16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_taken_where_it_is_fast_and_nothing_speaks_against_it() {
        assert_eq!(chosen(None, true, false), Some(HostDtype::BF16));
        assert_eq!(chosen(None, true, true), None);
        assert_eq!(chosen(None, false, false), None);
        assert_eq!(chosen(Some(HostDtype::F32), true, false), None);
    }
}
