//! What a person reads off a terminal.

/// The text of a screen without colours: control sequences `ESC [ … letter` are taken out (ECMA-48).
pub(crate) fn plain(screen: &str) -> String {
    let mut parts = screen.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let end = part.find(|symbol: char| symbol.is_ascii_alphabetic());
        text.push_str(end.map_or("", |end| &part[end + 1..]));
        text
    })
}

/// The address on a screen that begins with `start`.
#[track_caller]
pub(crate) fn address(screen: &str, start: &str) -> String {
    let screen = plain(screen);
    let found = screen.split_whitespace().find(|word| word.starts_with(start));
    found
        .unwrap_or_else(|| panic!("no {start} in {screen}"))
        .to_owned()
}

/// The code that is to be typed on another device.
#[track_caller]
pub(crate) fn user_code(screen: &str) -> String {
    let screen = plain(screen);
    let code = screen
        .lines()
        .find_map(|line| Some(line.split_once("enter       : ")?.1.trim()));
    code.unwrap_or_else(|| panic!("no code in {screen}")).to_owned()
}
