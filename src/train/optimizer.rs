//! Optimisers over a flat list of tensors.

use crate::ops::{AdamW, adamw};
use burn::tensor::Tensor;

/// Which rule updates the adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Adam with decoupled weight decay.
    ///
    /// # Source
    /// Loshchilov & Hutter 2019, algorithm 2, in PyTorch's order of operations.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Decoupled decay per unit of learning rate.
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum, as in PyTorch (no dampening, no Nesterov).
    Sgd {
        /// Decay of the velocity; 0 keeps none.
        momentum: f64,
        /// L2 penalty added to the gradient.
        weight_decay: f64,
    },
}

impl Rule {
    /// State tensors per parameter.
    pub fn slots(&self) -> usize {
        match self {
            Rule::AdamW { .. } => 2,
            Rule::Sgd { momentum, .. } => usize::from(*momentum != 0.0),
        }
    }
}

/// An optimiser with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    /// Updates done; Adam's bias correction depends on it.
    updates: u64,
    /// Per parameter [`Rule::slots`] tensors; empty before the first update.
    state: Vec<Vec<Tensor<2>>>,
}

impl Optimizer {
    /// An optimiser without state.
    pub fn new(rule: Rule) -> Self {
        Optimizer { rule, updates: 0, state: Vec::new() }
    }

    /// An optimiser that continues after `updates` updates with this state.
    pub fn resume(rule: Rule, updates: u64, state: Vec<Vec<Tensor<2>>>) -> Self {
        Optimizer { rule, updates, state }
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The state of each parameter.
    pub fn state(&self) -> &[Vec<Tensor<2>>] {
        &self.state
    }

    /// Returns the updated parameters.
    pub fn step(
        &mut self,
        learning_rate: f64,
        parameters: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
    ) -> Vec<Tensor<2>> {
        self.step_scaled(learning_rate, parameters, gradients, 1.0)
    }

    /// As [`Optimizer::step`], with all gradients times `scale`.
    pub fn step_scaled(
        &mut self,
        learning_rate: f64,
        parameters: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
        scale: f64,
    ) -> Vec<Tensor<2>> {
        self.updates += 1;
        if self.state.is_empty() {
            let slots = self.rule.slots();
            self.state = parameters.iter().map(|p| vec![p.zeros_like(); slots]).collect();
        }
        let inputs = parameters.into_iter().zip(gradients).zip(&mut self.state);
        let rates = Rates { updates: self.updates, learning_rate, scale };
        inputs.map(|((p, g), state)| update(self.rule, &rates, p, g, state)).collect()
    }
}

/// What all parameters have in common in an update.
struct Rates {
    /// Updates, this one included.
    updates: u64,
    learning_rate: f64,
    /// What gradients are multiplied by.
    scale: f64,
}

fn update(
    rule: Rule,
    &Rates { updates, learning_rate, scale }: &Rates,
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    state: &mut [Tensor<2>],
) -> Tensor<2> {
    match (rule, state) {
        (Rule::AdamW { beta1, beta2, epsilon, weight_decay }, [first, second]) => {
            let correction = |beta: f64| 1.0 - beta.powi(updates.min(i32::MAX as u64) as i32);
            let (step_size, root_correction) = (learning_rate / correction(beta1), correction(beta2).sqrt());
            let keep = 1.0 - learning_rate * weight_decay;
            let by = AdamW { beta1, beta2, epsilon, step_size, root_correction, keep, scale };
            let [parameter, new_first, new_second] = adamw(parameter, gradient, first, second, &by);
            (*first, *second) = (new_first, new_second);
            parameter
        }
        (Rule::Sgd { momentum, weight_decay }, state) => {
            let gradient = if scale == 1.0 { gradient } else { gradient.mul_scalar(scale) };
            let gradient =
                if weight_decay == 0.0 { gradient } else { gradient + parameter.clone().mul_scalar(weight_decay) };
            let direction = match state {
                [velocity] => {
                    *velocity = velocity.clone().mul_scalar(momentum) + gradient;
                    velocity.clone()
                }
                _ => gradient,
            };
            parameter - direction.mul_scalar(learning_rate)
        }
        (Rule::AdamW { .. }, _) => unreachable!("Optimizer::step gives AdamW two state tensors per parameter"),
    }
}
