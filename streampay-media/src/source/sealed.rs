//! Sources whose frames are sealed.

use std::{path::Path, sync::Arc};

use super::{Description, FileOptions, RtpError, Source, SourceError, SourceWriter, file::Files};
use crate::seal::{FrameSealer, StreamSecret, Unsealable, sealable};

impl Source {
    /// [`Source::open`], sealed: only who is granted its keys can play it. Spec: media 4.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::Unsealable`] for all but VP8 and Opus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_sealed(path: &Path, options: FileOptions) -> Result<Arc<Self>, SourceError> {
        let path = path.to_owned();
        let files = tokio::task::spawn_blocking(move || Files::find(&path))
            .await
            .map_err(std::io::Error::other)??;
        let channel = Self::sealed_channel(Some(files.description))?;
        Ok(Self::play(files, options, channel))
    }

    /// [`Source::open_rtp`], sealed.
    ///
    /// # Errors
    /// [`RtpError`]; [`RtpError::Seal`] for all but VP8 and Opus.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open_rtp_sealed(sdp: &str) -> Result<Arc<Self>, RtpError> {
        let (streams, description) = Self::described(sdp)?;
        let channel = Self::sealed_channel(Some(description))?;
        Self::receive(streams, channel).await
    }

    /// [`Source::live`], or without a description [`Source::awaited`], sealed. A source that is
    /// described later as something that cannot be sealed sends nothing of that.
    ///
    /// # Errors
    /// [`SourceError::Unsealable`] for all but VP8 and Opus, [`SourceError::Read`] where the
    /// system has no randomness.
    pub fn sealed(
        description: Option<Description>,
    ) -> Result<(SourceWriter, Arc<Self>), SourceError> {
        let (writer, source) = Self::sealed_channel(description)?;
        Ok((writer, Arc::new(source)))
    }

    fn sealed_channel(
        description: Option<Description>,
    ) -> Result<(SourceWriter, Self), SourceError> {
        for codec in description.iter().flat_map(Description::codecs) {
            sealable(codec)?;
        }
        let secret = Arc::new(StreamSecret::random()?);
        let (mut writer, mut source) = Self::channel(description);
        writer.sealer = Some(FrameSealer::new(secret.clone()));
        source.secret = Some(secret);
        Ok((writer, source))
    }

    /// Whether its frames are sealed.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.secret.is_some()
    }

    pub(crate) const fn secret(&self) -> Option<&Arc<StreamSecret>> {
        self.secret.as_ref()
    }
}

impl SourceWriter {
    /// Whether its frames are sealed.
    #[must_use]
    pub const fn seals(&self) -> bool {
        self.sealer.is_some()
    }
}

impl From<Unsealable> for SourceError {
    fn from(error: Unsealable) -> Self {
        Self::Unsealable(error.0)
    }
}
