//! The losses of a run, or its rewards, as a picture: SVG, which pages of the Hub show and a text editor reads.

use std::fmt::Write;

/// What of a run is drawn: rewards where it learns from them, whose loss says little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The loss.
    Loss,
    /// The mean reward.
    Reward,
}

impl Measure {
    /// All of them, first what says more where a folder has both.
    pub const ALL: [Measure; 2] = [Measure::Reward, Measure::Loss];

    /// The name of the picture beside a model card.
    pub fn file(self) -> &'static str {
        match self {
            Measure::Loss => "losses.svg",
            Measure::Reward => "rewards.svg",
        }
    }

    /// What the picture shows.
    pub fn title(self) -> &'static str {
        match self {
            Measure::Loss => "Loss by step",
            Measure::Reward => "Reward by step",
        }
    }

    /// The metric of steps, which is called `eval_..` of evaluations.
    pub fn metric(self) -> &'static str {
        match self {
            Measure::Loss => "loss",
            Measure::Reward => "reward",
        }
    }
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the numbers of the axes: left, top, right, bottom.
const MARGIN: [f64; 4] = [56.0, 16.0, 16.0, 44.0];
/// From one line of the legend to the next.
const LINE: f64 = 16.0;
/// More points than this are averaged in groups: the picture has no more columns to show them in.
const MOST_POINTS: usize = 500;
/// About as many lines across as are easily read.
const TICKS: f64 = 5.0;

const TRAINING: &str = "#4c78a8";
const EVALUATION: &str = "#f58518";

/// Draws a measure at steps, and at evaluations where there are any; `None` where two points at least are not to be had.
pub fn draw(measure: Measure, steps: &[(u64, f64)], evaluations: &[(u64, f64)]) -> Option<String> {
    let finite = |points: &[(u64, f64)]| -> Vec<(f64, f64)> {
        points.iter().filter(|(_, value)| value.is_finite()).map(|(step, value)| (*step as f64, *value)).collect()
    };
    let (steps, evaluations) = (thinned(&finite(steps)), finite(evaluations));
    let all = || steps.iter().chain(&evaluations);
    let x = Axis::over(all().map(|point| point.0))?;
    let y = Axis::over(all().map(|point| point.1))?;
    if steps.len() < 2 && evaluations.len() < 2 {
        return None;
    }
    let [left, top, right, bottom] = MARGIN;
    let across = |value: f64| left + x.share(value) * (WIDTH - left - right);
    let down = |value: f64| HEIGHT - bottom - y.share(value) * (HEIGHT - top - bottom);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#333\">\n<title>{}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n",
        measure.title()
    );
    // Writing to a String cannot fail, so the results are dropped.
    for value in y.ticks() {
        let at = down(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0,
            y.label(value)
        );
    }
    for value in x.ticks() {
        let (at, base) = (across(value), HEIGHT - bottom);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{base}\" x2=\"{at:.1}\" y2=\"{}\" stroke=\"#999\"/><text x=\"{at:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text>",
            base + 4.0,
            base + 18.0,
            x.label(value)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 8.0
    );
    // Where the curves are not: losses fall, rewards rise.
    let lines = usize::from(!steps.is_empty()) + usize::from(!evaluations.is_empty());
    let mut legend = match measure {
        Measure::Loss => top + 14.0,
        Measure::Reward => HEIGHT - bottom - 8.0 - LINE * (lines - 1) as f64,
    };
    let name = measure.metric();
    for (prefix, colour, points) in [("", TRAINING, &steps), ("eval_", EVALUATION, &evaluations)] {
        if points.is_empty() {
            continue;
        }
        let line: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", across(*a), down(*b))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line.join(" ")
        );
        if colour == EVALUATION {
            for (a, b) in points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>",
                    across(*a),
                    down(*b)
                );
            }
        }
        let end = WIDTH - right - 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{end}\" y=\"{legend}\" text-anchor=\"end\" fill=\"{colour}\">{prefix}{name}</text>"
        );
        legend += LINE;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// At most [`MOST_POINTS`] points, each the mean of as many.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let count = group.len() as f64;
        (group.iter().map(|p| p.0).sum::<f64>() / count, group.iter().map(|p| p.1).sum::<f64>() / count)
    };
    points.chunks(group).map(mean).collect()
}

/// A scale between two round numbers.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Option<Axis> {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        // A single value stands in the middle.
        let room = 0.5f64.max(1e-3 * high.abs());
        let (low, high) = if high - low > f64::EPSILON * high.abs() { (low, high) } else { (low - room, high + room) };
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| round * power >= rough).unwrap_or(10.0);
        Some(Axis { low: (low / step).floor() * step, high: (high / step).ceil() * step, step })
    }

    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|i| self.low + i as f64 * self.step)
    }

    /// A tick's number, with as many decimals as the steps need.
    fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 12.0) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_picture() {
        let steps: Vec<(u64, f64)> = (1..=4).map(|step| (step, 4.0 / step as f64)).collect();
        insta::assert_snapshot!(draw(Measure::Loss, &steps, &[(2, 2.5), (4, f64::NAN)]).unwrap());
    }

    #[test]
    fn rewards_are_drawn_under_their_own_name() {
        let svg = draw(Measure::Reward, &[(1, 0.5), (2, 0.75)], &[(2, 1.0)]).unwrap();
        for part in [
            "<title>Reward by step</title>",
            ">reward</text>",
            ">eval_reward</text>",
            ">0.5</text>",
            "y=\"292\"",
            "y=\"308\"",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("loss"), "{svg}");
    }

    #[test]
    fn many_points_are_averaged_and_few_are_no_picture() {
        let steps: Vec<(u64, f64)> = (1..=10_000).map(|step| (step, 1.0)).collect();
        let svg = draw(Measure::Loss, &steps, &[]).unwrap();
        let line = svg.lines().find(|line| line.starts_with("<polyline")).unwrap();
        assert!(line.split(' ').count() < MOST_POINTS + 10, "{}", line.len());
        assert!(svg.contains(">10000</text>") && svg.contains(">1.0</text>"), "{svg}");
        for none in [&[][..], &[(1, 2.0)], &[(1, f64::NAN), (2, 1.0)]] {
            assert_eq!(draw(Measure::Loss, none, &[]), None);
        }
    }
}
