//! When the system asks a process to end.

use std::sync::OnceLock;

use tokio::sync::watch;

/// Whether it was asked. Kept by a task that begins with the first wait.
static ASKED: OnceLock<watch::Receiver<bool>> = OnceLock::new();

/// Waits for Ctrl-C, or for SIGTERM where there is such a thing. Ready at once where one came since the
/// first wait of the process: it may have come while nobody waited.
pub async fn asked_to_end() {
    let mut asked = ASKED.get_or_init(listen).clone();
    if asked.wait_for(|asked| *asked).await.is_err() {
        // The runtime of the first wait is gone.
        signalled().await;
    }
}

fn listen() -> watch::Receiver<bool> {
    let (tell, asked) = watch::channel(false);
    tokio::spawn(async move {
        signalled().await;
        tell.send_replace(true);
        // Who asks later is told too.
        std::future::pending::<()>().await;
    });
    asked
}

async fn signalled() {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
