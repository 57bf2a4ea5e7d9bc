//! Folding an adapter into the weight that it adapts.

use crate::adapter::peft::ModuleTensors;
use crate::error::{Error, Kind, Result};
use rayon::prelude::*;

/// Replaces `weight` by `W + s B A`, or for DoRA by `m (W + s B A) / |W + s B A|` with the norm over each output's row.
///
/// # Shapes
/// - `weight`: `[out, in]`, row by row
///
/// # Numerics
/// In f32, as PEFT merges; `B A` is summed apart from `W`, so that small updates are not rounded at the size of `W`.
/// Row norms are summed in f64.
///
/// # Errors
/// Tensors of shapes that do not fit `[out, in]`, and a result that is not finite (a DoRA row of norm zero).
///
/// # Source
/// LoRA (arXiv 2106.09685) section 4.1; DoRA (arXiv 2402.09353) equation 5; checked against PEFT's `merge_and_unload`.
pub fn merge_into(weight: &mut [f32], [outputs, inputs]: [usize; 2], module: &ModuleTensors) -> Result<()> {
    let r = module.a.shape.first().copied().unwrap_or(0);
    let fits = outputs.checked_mul(inputs) == Some(weight.len())
        && module.a.shape == [r, inputs]
        && module.b.shape == [outputs, r]
        && module.magnitude.as_ref().is_none_or(|m| m.shape == [outputs]);
    if !fits {
        let what = format!(
            "an adapter with A {:?} and B {:?} does not fit a weight of shape [{outputs}, {inputs}]",
            module.a.shape, module.b.shape
        );
        return Err(Error::new(Kind::Adapter, what));
    }
    if r == 0 || weight.is_empty() {
        return Ok(());
    }
    let (a, b) = (module.a.to_f32(), module.b.to_f32());
    let magnitude = module.magnitude.as_ref().map(|m| m.to_f32());
    let scaling = module.scaling as f32;
    weight.par_chunks_mut(inputs).zip(b.par_chunks(r)).enumerate().for_each_init(
        || vec![0.0f32; inputs],
        |delta, (output, (row, b_row))| {
            delta.fill(0.0);
            for (factor, a_row) in b_row.iter().zip(a.chunks_exact(inputs)) {
                for (sum, x) in delta.iter_mut().zip(a_row) {
                    *sum += factor * x;
                }
            }
            for (w, d) in row.iter_mut().zip(delta.iter()) {
                *w += scaling * d;
            }
            if let Some(magnitude) = &magnitude {
                let norm = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>().sqrt();
                let factor = (f64::from(magnitude[output]) / norm) as f32;
                for w in row.iter_mut() {
                    *w *= factor;
                }
            }
        },
    );
    match weight.par_iter().position_any(|w| !w.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let what = format!("the merged weight is not finite in row {} of {outputs}", at / inputs);
            Err(Error::new(Kind::NonFinite, what)
                .hint("the adapter and the base do not go together, or one is damaged"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{HostData, HostTensor};

    fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
        HostTensor { shape: shape.to_vec(), data: HostData::F32(values.to_vec()) }
    }

    fn module() -> ModuleTensors {
        ModuleTensors {
            a: tensor(&[2, 3], &[1.0, 2.0, 3.0, 0.0, -1.0, 4.0]),
            b: tensor(&[2, 2], &[1.0, 2.0, -1.0, 0.5]),
            magnitude: None,
            scaling: 0.5,
        }
    }

    #[test]
    fn adds_the_scaled_product() {
        // B A = [[1, 0, 11], [-1, -2.5, -1]]
        let mut weight = vec![10.0, 20.0, 30.0, 0.0, 0.0, 0.0];
        merge_into(&mut weight, [2, 3], &module()).unwrap();
        assert_eq!(weight, [10.5, 20.0, 35.5, -0.5, -1.25, -0.5]);
    }

    #[test]
    fn dora_rows_have_the_length_of_their_magnitude() {
        let mut weight = vec![2.5, 0.0, 0.5, 0.5, 1.25, 0.5]; // W + s B A = [[3, 0, 6], [0, 0, 0]]
        let dora = ModuleTensors { magnitude: Some(tensor(&[2], &[5.0f32.sqrt(), 1.0])), ..module() };
        let error = merge_into(&mut weight, [2, 3], &dora).unwrap_err();
        assert!(error.what().contains("not finite in row 1 of 2"), "{error}");
        let mut weight = vec![2.5, 0.0, 0.5, 0.5, 1.25, 1.5];
        merge_into(&mut weight, [2, 3], &dora).unwrap();
        let expected = [1.0, 0.0, 2.0, 0.0, 0.0, 1.0];
        assert!(weight.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-6), "{weight:?}");
    }

    #[test]
    fn a_zero_b_changes_nothing_at_all() {
        let before = vec![0.1f32, -2.7, 3.3e-8, 4.0, 5.5, 6.25];
        let mut weight = before.clone();
        merge_into(&mut weight, [2, 3], &ModuleTensors { b: tensor(&[2, 2], &[0.0; 4]), ..module() }).unwrap();
        assert_eq!(weight, before);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let mut weight = vec![0.0; 6];
        assert!(merge_into(&mut weight, [3, 2], &module()).is_err());
        assert!(merge_into(&mut weight, [2, 4], &module()).is_err());
        assert!(merge_into(&mut weight, [usize::MAX, 3], &module()).is_err());
        let magnitude = Some(tensor(&[3], &[1.0; 3]));
        assert!(merge_into(&mut weight, [2, 3], &ModuleTensors { magnitude, ..module() }).is_err());
    }
}
