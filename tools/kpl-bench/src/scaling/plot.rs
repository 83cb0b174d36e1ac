//! The plot: four panels, one for what is varied, each with processor time above and rate below; SVG, written by hand.
//!
//! ```text
//!   ┌ cores ───────┐ ┌ shards ──────┐ ┌ submitters ──┐ ┌ streams ─────┐
//!   │ ns a record  │ │              │ │              │ │              │     bars, and a line from the least to the
//!   ├──────────────┤ ├──────────────┤ ├──────────────┤ ├──────────────┤     greatest run; one scale for all panels
//!   │ records/s    │ │              │ │              │ │              │
//!   └ 1   2 ───────┘ └ 1 8 64 … ────┘ └──────────────┘ └──────────────┘
//! ```
//!
//! Values on the horizontal axis stand at equal distances. All scales begin at zero, and are the same in every panel, so
//! that bars can be compared by eye.

use std::fmt::{self, Write};

use super::{Line, Point, Scaling};
use crate::report::grouped;
use crate::spread::Spread;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
/// Left edge of the first panel, and room between two.
const LEFT: f64 = 78.0;
const GAP: f64 = 26.0;
/// Top and height of the upper and the lower half.
const UPPER: (f64, f64) = (96.0, 220.0);
const LOWER: (f64, f64) = (360.0, 180.0);
/// Width of a column that holds one bar.
const COLUMN: f64 = 72.0;
const BAR: f64 = 34.0;
/// Steps of a scale.
const STEPS: u32 = 5;

/// What a half shows.
struct Half {
    top: f64,
    height: f64,
    /// Value of a step.
    step: f64,
    /// What a value is divided by where it is written.
    unit: f64,
    colour: &'static str,
}

impl Half {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value / (self.step * f64::from(STEPS)))
    }
}

/// The plot, as a whole document.
pub fn draw(scaling: &Scaling) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut svg, scaling);
    svg
}

fn write(svg: &mut String, scaling: &Scaling) -> fmt::Result {
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">"
    )?;
    writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
    text(
        svg,
        (WIDTH / 2.0, 28.0),
        "middle",
        "font-size=\"17\"",
        "kpl: cost of a record, one setting varied at a time",
    )?;
    let base = scaling.base;
    let setting = format!(
        "base {} core, {} shards, {} submitter, {} stream; {} B records, {}, {}, {}, no rate limit, linger {} ms; median of {} \
         runs of {}, with the least and the greatest",
        base.cores,
        base.shards,
        base.submitters,
        base.streams,
        scaling.record_size,
        scaling.runtime,
        scaling.wire,
        if scaling.tls { "TLS" } else { "in the clear" },
        scaling.linger_ms,
        scaling.runs,
        grouped(scaling.records_per_run)
    );
    text(svg, (WIDTH / 2.0, 48.0), "middle", "fill=\"#555\"", &setting)?;
    text(svg, (WIDTH / 2.0, 64.0), "middle", "fill=\"#555\"", &scaling.machine.line())?;
    let points = || scaling.lines.iter().flat_map(|line| &line.points);
    let greatest = |of: fn(&Point) -> Spread| points().map(|point| of(point).max).fold(0.0, f64::max);
    let halves = [
        Half {
            top: UPPER.0,
            height: UPPER.1,
            step: step(greatest(|point| point.cpu_ns_per_record)),
            unit: 1.0,
            colour: "#4477aa",
        },
        Half {
            top: LOWER.0,
            height: LOWER.1,
            step: step(greatest(|point| point.records_per_s)),
            unit: 1e6,
            colour: "#66aa55",
        },
    ];
    for (half, title) in halves.iter().zip(["ns of CPU a record", "million records/s"]) {
        write_scale(svg, half, title)?;
    }
    let mut left = LEFT;
    for line in &scaling.lines {
        left = write_panel(svg, line, left, &halves)? + GAP;
    }
    text(
        svg,
        (WIDTH / 2.0, HEIGHT - 14.0),
        "middle",
        "fill=\"#555\"",
        "under each value, in italics: records in an aggregate; a smaller aggregate costs more a record",
    )?;
    writeln!(svg, "</svg>")
}

fn write_scale(svg: &mut String, half: &Half, title: &str) -> fmt::Result {
    let middle = half.top + half.height / 2.0;
    let turned = format!("transform=\"rotate(-90 20 {middle:.1})\"");
    text(svg, (20.0, middle), "middle", &turned, title)?;
    for number in 0..=STEPS {
        let value = half.step * f64::from(number);
        let shown = value / half.unit;
        let shown = if half.unit > 1.0 { trimmed(shown) } else { grouped(shown as u64) };
        text(svg, (LEFT - 8.0, half.y(value) + 4.0), "end", "", &shown)?;
    }
    Ok(())
}

/// Draws a panel; returns its right edge.
fn write_panel(svg: &mut String, line: &Line, left: f64, halves: &[Half; 2]) -> Result<f64, fmt::Error> {
    let right = left + COLUMN * line.points.len() as f64;
    text(svg, ((left + right) / 2.0, UPPER.0 - 10.0), "middle", "font-weight=\"bold\"", line.dimension.name())?;
    for half in halves {
        for number in 0..=STEPS {
            let y = half.y(half.step * f64::from(number));
            let colour = if number == 0 { "#222" } else { "#ddd" };
            writeln!(
                svg,
                "<line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>"
            )?;
        }
    }
    let [cpu, rate] = halves;
    for (number, point) in line.points.iter().enumerate() {
        let x = left + COLUMN * (number as f64 + 0.5);
        write_bar(svg, cpu, x, &point.cpu_ns_per_record, &grouped(point.cpu_ns_per_record.median.round() as u64))?;
        write_bar(svg, rate, x, &point.records_per_s, &format!("{:.2}", point.records_per_s.median / rate.unit))?;
        let below = rate.top + rate.height;
        text(svg, (x, below + 18.0), "middle", "", &grouped(u64::from(point.value)))?;
        let members = format!("{:.0}", point.members_per_aggregate);
        text(svg, (x, below + 35.0), "middle", "font-style=\"italic\" font-size=\"11\" fill=\"#555\"", &members)?;
    }
    Ok(right)
}

fn write_bar(svg: &mut String, half: &Half, x: f64, spread: &Spread, label: &str) -> fmt::Result {
    let (top, bottom) = (half.y(spread.median), half.y(0.0));
    let (colour, start, height) = (half.colour, x - BAR / 2.0, bottom - top);
    writeln!(svg, "<rect x=\"{start:.1}\" y=\"{top:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"{colour}\"/>")?;
    let (least, greatest) = (half.y(spread.min), half.y(spread.max));
    writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{least:.1}\" x2=\"{x:.1}\" y2=\"{greatest:.1}\" stroke=\"#222\"/>")?;
    text(svg, (x, greatest.min(top) - 5.0), "middle", "font-size=\"11\"", label)
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, how: &str, content: &str) -> fmt::Result {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {how}>{content}</text>")
}

/// A number without zeros at its end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The value of a step of a scale that shows `max` with room for a label above: a round number.
fn step(max: f64) -> f64 {
    let least = (max * 1.08 / f64::from(STEPS)).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(least.log10().floor());
    let factor =
        [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn steps_are_round_and_hold_the_greatest_value() {
        for (max, expected) in [(1.0, 0.25), (8.5, 2.0), (430.0, 100.0), (1_900_000.0, 500_000.0), (92.0, 20.0)] {
            assert!((step(max) - expected).abs() < expected * 1e-9, "{max}: {}", step(max));
            assert!(step(max) * f64::from(STEPS) > max);
        }
        assert!(step(0.0) > 0.0);
    }

    /// Whether every element is closed, in order, and no text opens one.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let Some((tag, _)) = part.split_once('>') else { return false };
            let name = tag.split_whitespace().next().unwrap_or_default();
            match tag.strip_prefix('/') {
                Some(closed) => {
                    if open.pop() != Some(closed) {
                        return false;
                    }
                }
                None if tag.ends_with('/') => {}
                None => open.push(name),
            }
            if tag.matches('"').count() % 2 == 1 {
                return false;
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_plot_is_well_formed_and_shows_every_point_within_its_frame() {
        let scaling = example();
        let svg = draw(&scaling);
        assert!(is_well_formed(&svg), "{svg}");
        assert!(!is_well_formed(&svg.replacen("</text>", "", 1)));
        let points: usize = scaling.lines.iter().map(|line| line.points.len()).sum();
        assert_eq!(svg.matches("<rect x=").count(), 2 * points);
        assert!(svg.contains(">4 000<") && svg.contains("A &amp; B &lt;CPU&gt;"), "{svg}");
        for attribute in ["x", "x1", "x2", "y", "y1", "y2"] {
            let marker = format!(" {attribute}=\"");
            for value in svg.split(&marker).skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok()) {
                let limit = if attribute.starts_with('x') { WIDTH } else { HEIGHT };
                assert!((0.0..=limit).contains(&value), "{attribute}={value}");
            }
        }
    }
}
