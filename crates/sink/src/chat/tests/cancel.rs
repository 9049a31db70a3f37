//! Who asks wants no answer any more.

use super::*;

#[test]
fn who_wants_no_more_ends_the_call() {
    let world = two_accounts();
    let piece = chat_events(&["hel"]).remove(0);
    world
        .test
        .transport
        .push(Scripted::events([piece, Step::Silence(Duration::MAX)]));
    let (cancel, mut told) = (Cancel::default(), String::new());
    let mut chat = world.sink().chat(request(None)).unwrap();
    let answer = world.sink().chat_turn(&mut chat, "hi", &cancel, &mut |event| {
        if let ChatEvent::Text(text) = event {
            told.push_str(text);
            cancel.set();
        }
    });
    assert_eq!((failed(answer).code(), told.as_str()), ("cancelled", "hel"));
}

/// Ctrl-C while the chat waits for the end of a bench, or for a refresh.
#[test]
fn who_wants_no_more_does_not_wait_for_an_account() {
    let world = two_accounts();
    for _ in 0..2 {
        refuses(&world, 429, Some(("retry-after", "30")), SLOW);
    }
    failed(ask(&world).0);
    let before = world.test.clock.slept();
    let cancel = Cancel::default();
    cancel.set();
    let mut chat = world.sink().chat(request(None)).unwrap();
    let answer = world.sink().chat_turn(&mut chat, "hi", &cancel, &mut |_| {});
    assert_eq!(failed(answer).code(), "cancelled");
    assert_eq!(world.test.clock.slept(), before);
}
