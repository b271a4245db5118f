//! Bars of two comparers on a logarithmic scale, as SVG. Knows nothing of what the figures mean.

use std::fmt::Write as _;

/// A drawing.
#[derive(Clone, Debug, Default)]
pub struct Drawing {
    /// Above it.
    pub title: String,
    /// What a figure is of.
    pub unit: String,
    /// What the bars of a group are of, in order; four at most.
    pub series: Vec<String>,
    /// A name, and a figure for each of the series, if there is one. Figures above 0.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

const COLOURS: [&str; 4] = ["#2f6fb0", "#c8722c", "#8fb8de", "#e9b48a"];
const WIDTH: f64 = 860.0;
const LEFT: f64 = 290.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 56.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;

impl Drawing {
    /// The file's text.
    pub fn svg(&self) -> String {
        let all = || self.groups.iter().flat_map(|(_, figures)| figures.iter().flatten().copied());
        let least = all().fold(f64::INFINITY, f64::min);
        let most = all().fold(0.0, f64::max);
        if most <= 0.0 {
            return String::new();
        }
        // Whole decades, so that the lines stand at round numbers.
        let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
        let x = |figure: f64| LEFT + (figure.log10() - low) / (high - low) * (WIDTH - LEFT - RIGHT);
        let group_height = self.series.iter().map(|_| BAR).sum::<f64>() + GAP;
        let bottom = TOP + self.groups.iter().map(|_| group_height).sum::<f64>();
        let height = bottom + 28.0;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"12\" y=\"20\" font-size=\"14\">{}</text>\n",
            escape(&self.title)
        );
        self.key(&mut text);
        let mut decade = low;
        while decade <= high {
            let (at, figure) = (x(10_f64.powf(decade)), 10_f64.powf(decade));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ccc\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{} {}</text>",
                bottom + 16.0,
                short(figure),
                escape(&self.unit)
            );
            decade += 1.0;
        }
        let mut y = TOP + GAP / 2.0;
        for (name, figures) in &self.groups {
            let middle = y + (group_height - GAP) / 2.0 + 4.0;
            let _ = writeln!(
                text,
                "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                escape(name)
            );
            for (figure, colour) in figures.iter().zip(COLOURS) {
                if let Some(figure) = figure {
                    let _ = writeln!(
                        text,
                        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\" fill=\"#333\">{}</text>",
                        (x(*figure) - LEFT).max(1.0),
                        BAR - 1.0,
                        x(*figure) + 4.0,
                        y + 8.5,
                        short(*figure)
                    );
                }
                y += BAR;
            }
            y += GAP;
        }
        text.push_str("</svg>\n");
        text
    }

    fn key(&self, text: &mut String) {
        let mut at = LEFT;
        for (name, colour) in self.series.iter().zip(COLOURS) {
            let _ = writeln!(
                text,
                "<rect x=\"{at}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"41\">{}</text>",
                at + 14.0,
                escape(name)
            );
            at += 110.0;
        }
    }
}

fn short(figure: f64) -> String {
    match figure {
        large if large >= 1e6 => format!("{:.1} M", large / 1e6),
        large if large >= 1e4 => format!("{:.0} k", large / 1e3),
        some if some >= 100.0 => format!("{some:.0}"),
        some if some >= 1.0 => format!("{}", (some * 10.0).round() / 10.0),
        small => format!("{small:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width_of(line: &str) -> f64 {
        let (_, rest) = line.split_once("width=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    #[test]
    fn ten_times_as_much_is_a_decade_longer() {
        let drawing = Drawing {
            title: "a < b".to_owned(),
            unit: "ns".to_owned(),
            series: vec!["x".to_owned(), "y".to_owned()],
            groups: vec![
                ("one".to_owned(), vec![Some(20.0), Some(200.0)]),
                ("two".to_owned(), vec![None, Some(2000.0)]),
            ],
        };
        let svg = drawing.svg();
        assert!(svg.contains("a &lt; b"));
        let bars: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x=\"290\"") && !line.contains("y=\"32\""))
            .map(width_of)
            .collect();
        assert_eq!(bars.len(), 3, "{svg}");
        assert!((bars[1] - bars[0] - (bars[2] - bars[1])).abs() < 0.2, "{bars:?}");
        assert_eq!(svg.matches("<line").count(), 4, "10, 100, 1,000 and 10,000");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(Drawing::default().svg(), "");
    }
}
