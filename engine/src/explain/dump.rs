//! Bytes of two columns side by side, by their place in the stream and not in their frames.

use std::fmt::Write;

/// Whether the output may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// Escape sequences of a terminal.
    Colour,
}

/// Bytes in a row of one column.
const ROW: i64 = 8;
/// Bytes shown before and after the marked one.
const BEFORE: i64 = 24;
const AFTER: i64 = 40;

/// One column: its heading and its bytes by offset.
pub(super) struct Column<'a> {
    pub(super) title: String,
    pub(super) byte: Box<dyn Fn(i64) -> Option<u8> + 'a>,
}

/// The rows around `mark`. A row in which the columns differ has a star, the marked byte stands in `>xx<`; `--` is a
/// byte that this column does not have.
pub(super) fn dump(columns: &[Column<'_>; 2], mark: i64, style: Style) -> String {
    let first = (mark - BEFORE).div_euclid(ROW) * ROW;
    let last = (mark + AFTER).div_euclid(ROW) * ROW;
    let mut text = String::new();
    let [left, right] = columns;
    let _ = writeln!(text, "{:>10}   {:<35}  {}", "offset", left.title, right.title);
    for start in (first..last).step_by(8) {
        let row = |column: &Column<'_>| -> Vec<Option<u8>> {
            (start..start + ROW).map(|offset| (column.byte)(offset)).collect()
        };
        let [one, other] = [row(left), row(right)];
        let has_mark = (start..start + ROW).contains(&mark);
        if one.iter().chain(&other).all(Option::is_none) && !has_mark {
            continue;
        }
        let marked = usize::try_from(mark - start).ok().filter(|_| has_mark);
        let star = if one == other { ' ' } else { '*' };
        let _ = writeln!(
            text,
            "{start:>10} {star}{}  {}",
            cells(&one, marked, style),
            cells(&other, marked, style).trim_end()
        );
    }
    text
}

/// ` 68 65>6c<6c …  hel.o`
fn cells(bytes: &[Option<u8>], marked: Option<usize>, style: Style) -> String {
    let mut hex = String::new();
    let mut ascii = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        let open = match marked {
            Some(mark) if mark == place => '>',
            Some(mark) if mark + 1 == place => '<',
            _ => ' ',
        };
        hex.push(open);
        let shown = byte.map_or_else(|| "--".to_owned(), |byte| format!("{byte:02x}"));
        let letter = match byte {
            Some(byte) if byte.is_ascii_graphic() || *byte == b' ' => char::from(*byte),
            Some(_) => '.',
            None => ' ',
        };
        if marked == Some(place) && style == Style::Colour {
            let _ = write!(hex, "\x1b[1;31m{shown}\x1b[0m");
            let _ = write!(ascii, "\x1b[1;31m{letter}\x1b[0m");
        } else {
            hex.push_str(&shown);
            ascii.push(letter);
        }
    }
    hex.push(if marked == Some(bytes.len() - 1) { '<' } else { ' ' });
    format!("{hex} {ascii}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &str, from: i64, bytes: &'static [u8]) -> Column<'static> {
        let byte = move |offset: i64| bytes.get(usize::try_from(offset - from).ok()?).copied();
        Column { title: title.to_owned(), byte: Box::new(byte) }
    }

    #[test]
    fn bytes_stand_below_each_other_by_offset() {
        let columns = [column("primary", 4, b"same then A end"), column("secondary", 6, b"me then B end")];
        let text = dump(&columns, 14, Style::Plain);
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(
            rows[1],
            "         0 * -- -- -- -- 73 61 6d 65      same   -- -- -- -- -- -- 6d 65        me"
        );
        let marked = "         8 * 20 74 68 65 6e 20>41<20   then A    20 74 68 65 6e 20>42<20   then B";
        assert_eq!(rows[2], marked);
        assert_eq!(rows.len(), 4, "{text}");
        assert!(rows.iter().all(|row| row.chars().count() <= 82), "{text}");
    }

    #[test]
    fn a_byte_that_one_side_lacks_is_marked_too() {
        let columns = [column("primary", 0, b"01234567"), column("secondary", 0, b"0123456")];
        let text = dump(&columns, 7, Style::Plain);
        assert!(text.contains("36>37< 01234567") && text.contains("36>--< 0123456"), "{text}");
        assert!(dump(&columns, 7, Style::Colour).contains(">\x1b[1;31m37\x1b[0m<"));
    }
}
