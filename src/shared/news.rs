//! What cores and the control thread tell, and what becomes of it: the face carries it from one to the other, and to
//! whoever waits for it.

use std::sync::Arc;

use super::access::access_of;
use super::{Shared, lock};
use crate::codec::Wire;
use crate::config::WireFormat;
use crate::control::access::AccessError;
use crate::control::service::{Notice, Order};
use crate::engine::{UNORDERED, Unheard};
use crate::record::StreamId;
use crate::runtime::command::{Command, Event};
use crate::runtime::lines::AccessDenied;

impl Shared {
    /// What a core tells; called on its thread.
    pub(crate) fn on_event(&self, event: Event) {
        match event {
            Event::MapWanted(stream) => self.order(Order::Map(stream)),
            Event::Suspected(stream) => self.order(Order::Suspected(stream)),
            Event::Flushed(token) => self.flushed(token),
            Event::RequestFailed(error) | Event::NotPinned(error) => self.note_error(error),
            Event::AccessRefused(serial) => self.order(Order::AccessRefused(serial)),
            Event::WireSettled(wire) => self.settle_wire(wire),
            Event::Measured(measured) => self.meter.hand_over(measured),
            Event::Unmapped(stream) => self.warn_unmapped(stream),
            Event::Unheard(Unheard { stream, settlement, records }) => {
                let stream = self.stream(stream).map(|stream| stream.name.as_str().into());
                self.callbacks.tell(stream, settlement, records, records);
            }
            Event::MayBeStuck => self.refuse_if_stuck(),
        }
    }

    /// A core has learned which form the endpoint takes. Said once for all cores, if it is the one that costs more.
    fn settle_wire(&self, wire: Wire) {
        let format = match wire {
            Wire::Cbor => WireFormat::Cbor,
            Wire::Json => WireFormat::Json,
        };
        let before = std::mem::replace(&mut *lock(&self.wire), format);
        if before != format && format == WireFormat::Json {
            tracing::warn!("the endpoint refuses CBOR and takes JSON, which costs a third more bytes; it stays so");
        }
    }

    fn warn_unmapped(&self, id: StreamId) {
        if let Some(stream) = self.stream(id) {
            let trouble = self.last_error();
            let trouble = trouble.as_deref().unwrap_or("no listing has ended yet");
            tracing::warn!(
                stream = stream.name.as_str(),
                %trouble,
                "the stream's shards are not known; records are sent without aggregation and limits until they are"
            );
        }
    }

    /// What the control thread tells; called on its thread.
    pub(crate) fn on_notice(&self, notice: Notice) {
        match notice {
            Notice::Access(access) => {
                let denied = |error: AccessError| AccessDenied { code: error.code, message: error.message };
                let access = access.map_err(denied).and_then(|grant| access_of(&grant, self.tls.as_ref()));
                if let Err(denied) = &access {
                    self.note_error(format!("{}: {}", denied.code, denied.message));
                }
                let access = access.map(Arc::new);
                self.command_all(|| Command::Access(access.clone()));
            }
            Notice::AccessTrouble(reason) => {
                tracing::warn!(%reason, "no fresh AWS credentials; those at hand, if any, are used");
                self.note_error(reason.to_string());
            }
            Notice::Map(id, map) => {
                self.command_all(|| Command::Map(id, Arc::clone(&map)));
                let Some(stream) = self.stream(id) else { return };
                if stream.ordered && map.is_service_managed() {
                    tracing::error!(stream = stream.name.as_str(), "{UNORDERED}");
                    return stream.refuse(UNORDERED);
                }
                stream.refused.set(false);
                stream.readiness.set(Ok(()));
            }
            Notice::MapFailed(id, reason) => {
                self.note_error(reason.to_string());
                self.command_all(|| Command::MapFailed(id, Arc::clone(&reason)));
            }
            Notice::StreamMissing(id) => self.command_all(|| Command::StreamMissing(id)),
            Notice::MapRefused(id, reason) => {
                self.note_error(reason.to_string());
                self.command_all(|| Command::MapRefused(id, Arc::clone(&reason)));
                if let Some(stream) = self.stream(id)
                    && stream.readiness.get() != Some(Ok(()))
                {
                    tracing::error!(stream = stream.name.as_str(), %reason, "the stream's shards cannot be listed");
                    stream.refuse(&reason);
                }
            }
        }
    }
}
