//! Pictures of figures, drawn here: SVG with a text for who does not see it.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::admin::usage::PointView;
use crate::page::show::{bytes, number};

/// Size of the large plot, in units of its own.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;
/// Size of the small one.
const SMALL_WIDTH: u64 = 96;
const SMALL_HEIGHT: u64 = 22;
/// The small one shows a day.
const SMALL_POINTS: usize = 24;

fn requests(point: &PointView) -> u64 {
    u64::from(point.good) + u64::from(point.refused) + u64::from(point.failed)
}

/// The parts of a bar from below, with the class that colours them.
fn parts(point: &PointView) -> [u64; 3] {
    [point.good, point.refused, point.failed].map(u64::from)
}

const COLOURS: [&str; 3] = ["g", "r", "f"];

/// Lines from below, one path a colour: `None` where there is nothing of it.
fn paths(points: &[PointView], width: u64, height: u64) -> [Option<String>; 3] {
    let highest = points.iter().map(requests).max().unwrap_or(0).max(1);
    let mut paths = [String::new(), String::new(), String::new()];
    let step = width / u64::try_from(points.len().max(1)).unwrap_or(1);
    for (place, point) in (0_u64..).zip(points) {
        let mut below = 0;
        for (part, path) in parts(point).into_iter().zip(&mut paths) {
            if part == 0 {
                continue;
            }
            let (from, to) = (below * height / highest, (below + part) * height / highest);
            below += part;
            // One failure among thousands is seen.
            let tall = (to - from).max(1);
            let _ = write!(path, "M{} {}v-{tall}", place * step + step / 2, height - from.min(height - 1));
        }
    }
    paths.map(|path| Some(path).filter(|path| !path.is_empty()))
}

/// The last 24 hours in a line of a table.
pub(super) fn small(hours: &[PointView]) -> Markup {
    let day = &hours[hours.len().saturating_sub(SMALL_POINTS)..];
    let all: u64 = day.iter().map(requests).sum();
    if all == 0 {
        return html! { span.faint { "none" } };
    }
    let highest = day.iter().map(requests).max().unwrap_or(0);
    let failed: u64 = day.iter().map(|point| u64::from(point.failed)).sum();
    let mut label = format!("{} in 24 h, at most {} an hour", number(all), number(highest));
    if failed > 0 {
        let _ = write!(label, ", {} failed", number(failed));
    }
    html! {
        svg.small viewBox={ "0 0 " (SMALL_WIDTH) " " (SMALL_HEIGHT) } role="img" aria-label=(label) {
            @for (path, colour) in paths(day, SMALL_WIDTH, SMALL_HEIGHT).iter().zip(COLOURS) {
                @if let Some(path) = path { path class=(colour) d=(path) {} }
            }
        }
        " " span.faint { (number(all)) }
    }
}

/// Figures in a line, with gaps where there is none.
pub(super) fn line(figures: &[Option<f64>], label: &str) -> Markup {
    let highest = figures.iter().flatten().fold(f64::MIN_POSITIVE, |highest, figure| figure.max(highest));
    let step = SMALL_WIDTH as f64 / figures.len().max(1) as f64;
    let mut path = String::new();
    let mut has_gap = true;
    for (place, figure) in figures.iter().enumerate() {
        let Some(figure) = figure else {
            has_gap = true;
            continue;
        };
        // A figure between two gaps is a dash of its own width.
        let (x, y) = (place as f64 * step, 1.0 + (SMALL_HEIGHT as f64 - 2.0) * (1.0 - figure / highest));
        let _ = write!(path, "{}{x:.0} {y:.0}h{step:.0}", if has_gap { 'M' } else { 'L' });
        has_gap = false;
    }
    html! {
        svg.small.line viewBox={ "0 0 " (SMALL_WIDTH) " " (SMALL_HEIGHT) } role="img" aria-label=(label) { path.g d=(path) {} }
    }
}

/// Stacked bars with a legend, and the same as a table. `unit`: `h` or `d`.
pub(super) fn large(title: &str, points: &[PointView], unit: &str) -> Markup {
    let [good, refused, failed] = points.iter().map(parts).fold([0; 3], |sum, next| [sum[0] + next[0], sum[1] + next[1], sum[2] + next[2]]);
    let highest = points.iter().map(requests).max().unwrap_or(0);
    let label = format!("{title}: {} answered, {} refused, {} failed", number(good), number(refused), number(failed));
    let wide = if points.len() > 24 { "plot many" } else { "plot" };
    html! {
        figure {
            figcaption { (title) }
            svg class=(wide) viewBox={ "0 0 " (WIDTH) " " (HEIGHT + 2) } preserveAspectRatio="none" role="img" aria-label=(label) {
                path.grid d={ "M0 1h" (WIDTH) "M0 " (HEIGHT / 2) "h" (WIDTH) "M0 " (HEIGHT + 1) "h" (WIDTH) } {}
                @for (path, colour) in paths(points, WIDTH, HEIGHT).iter().zip(COLOURS) {
                    @if let Some(path) = path { path class=(colour) d=(path) {} }
                }
            }
            p.axis { span { "−" (points.len()) " " (unit) } span { "top: " (number(highest)) } span { "now" } }
            p.legend {
                span.g { (number(good)) " answered" } " " span.r { (number(refused)) " refused or 4xx" } " " span.f { (number(failed)) " failed" }
            }
            @if highest > 0 { (table(points, unit)) }
        }
    }
}

fn table(points: &[PointView], unit: &str) -> Markup {
    html! {
        details {
            summary { "The same as a table" }
            table.figures {
                thead { tr { th scope="col" { "When" } th scope="col" { "Answered" } th scope="col" { "Refused" } th scope="col" { "Failed" } th scope="col" { "Moved" } } }
                tbody {
                    @for (back, point) in points.iter().rev().enumerate().filter(|(_, point)| requests(point) > 0) {
                        tr {
                            th scope="row" { @if back == 0 { "now" } @else { "−" (back) " " (unit) } }
                            @for part in parts(point) { td { (number(part)) } }
                            td { (bytes(u64::from(point.kib) * 1024)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(good: u32, refused: u32, failed: u32) -> PointView {
        PointView { good, refused, failed, kib: 0 }
    }

    #[test]
    fn bars_stand_on_each_other_and_the_highest_fills_the_plot() {
        let points = [point(0, 0, 0), point(10, 0, 0), point(5, 3, 2), point(1, 0, 0)];
        let [good, refused, failed] = paths(&points, 40, 100);
        assert_eq!(good.as_deref(), Some("M15 100v-100M25 100v-50M35 100v-10"));
        assert_eq!(refused.as_deref(), Some("M25 50v-30"));
        assert_eq!(failed.as_deref(), Some("M25 20v-20"));
    }

    #[test]
    fn a_line_has_gaps_where_there_are_no_figures() {
        let drawn = line(&[Some(10.0), None, Some(5.0), Some(10.0)], "latency").into_string();
        assert!(drawn.contains("d=\"M0 1h24M48 11h24L72 1h24\"") && drawn.contains("aria-label=\"latency\""), "{drawn}");
        assert!(line(&[None; 12], "none").into_string().contains("d=\"\""));
    }

    #[test]
    fn one_failure_among_thousands_is_seen_and_the_largest_numbers_do_no_harm() {
        assert!(paths(&[point(100_000, 0, 1)], 10, 22)[2].as_deref().is_some_and(|path| path.ends_with("v-1")));
        let most = point(u32::MAX, u32::MAX, u32::MAX);
        assert!(small(&[most]).into_string().contains("12,884,901,885 in 24 h"));
        assert!(small(&[]).into_string().contains("none"));
    }

    #[test]
    fn a_small_plot_is_small() {
        let worst: Vec<PointView> = (0..48).map(|_| point(999, 333, 111)).collect();
        let drawn = small(&worst).into_string();
        assert!(drawn.len() < 1200, "{}", drawn.len());
    }
}
