//! Panics in tasks, which the runtime keeps to itself.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Most panics of a run that are kept.
const PANICS_MAX: usize = 4;

/// From now on panics of this thread are written down.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.to_string();
            let kept = PANICS.try_with(|panics| {
                let mut panics = panics.borrow_mut();
                if panics.len() < PANICS_MAX {
                    panics.push(text);
                }
            });
            if kept.is_err() {
                before(info);
            }
        }));
    });
    drop(take());
}

/// What was written down on this thread.
pub(crate) fn take() -> Vec<String> {
    PANICS.with(|panics| std::mem::take(&mut *panics.borrow_mut()))
}
