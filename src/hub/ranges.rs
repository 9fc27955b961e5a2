//! Some bytes of a file on the hub, handed over as they come and kept nowhere.

use std::ops::Range;

use super::client::Hub;
use super::error::HubError;
use super::http::Failure;
use super::want::Want;
use crate::error::ErrorClass;

impl Hub {
    /// Hands over a range of a file, in order, each byte once.
    ///
    /// Nothing but the server vouches for these bytes: there is no digest of a part. That they are all there, and of
    /// a file of the size that the hub's list gives, is checked.
    ///
    /// # Errors
    /// If the hub cannot or must not be asked, or answers with something else; what `take` fails with.
    pub fn read_range(
        &self,
        want: Want<'_>,
        range: Range<u64>,
        mut take: impl FnMut(&[u8]) -> Result<(), HubError>,
    ) -> Result<(), HubError> {
        self.check_online(&want.snapshot.id)?;
        let read = self.try_range(want, range, &mut take);
        if let Err(error) = &read
            && error.class() == ErrorClass::Remote
        {
            self.given_up.get_or_init(|| error.to_string());
        }
        read
    }

    fn try_range(
        &self,
        want: Want<'_>,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), HubError>,
    ) -> Result<(), HubError> {
        let address = want.snapshot.address(&self.http, want.file);
        let mut next = range.start;
        self.http.patiently(|came_further| {
            if next >= range.end {
                return Ok(());
            }
            if let Some(why) = self.given_up.get() {
                return Err(HubError::GivenUp(why.clone()).into());
            }
            let left = next..range.end;
            let answer = self.http.get(&address, &want.snapshot.id, Some(&left))?;
            let mut at = want.brought(&answer, &left)?.start;
            answer.read(|bytes| {
                self.http.check_stop()?;
                self.note_received(bytes.len());
                // Of a server that gives no parts, what comes before is passed over, and what comes behind is not read.
                let skipped = (next - at).min(bytes.len() as u64) as usize;
                let wanted = (range.end - next).min((bytes.len() - skipped) as u64) as usize;
                at += bytes.len() as u64;
                if wanted > 0 {
                    take(&bytes[skipped..skipped + wanted])?;
                    next += wanted as u64;
                    *came_further = true;
                }
                Ok(next < range.end)
            })?;
            if next >= range.end {
                return Ok(());
            }
            let problem = format!("{} ended early, after {at} bytes", want.name());
            Err(Failure::Passing(HubError::Unreachable { address: address.clone(), problem }, None))
        })
    }
}
