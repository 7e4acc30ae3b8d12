//! Where the reading of each stream stands.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, Iterable, QueryFilter, QueryOrder};

use super::tables::stream_state::{ActiveModel, Column, Entity};
use super::{Millis, Result, Store};

/// Where the reading of one stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Everything the vendor changed before this time was read.
    pub watermark: Option<Millis>,
    /// Vendor's clock minus ours.
    pub clock_offset: Option<i64>,
    /// Where the rolling deep scan goes on; opaque.
    pub deep_cursor: Option<String>,
    /// The scan that is under way.
    pub open_scan: Option<i64>,
    /// The last scan that saw everything.
    pub last_complete_scan: Option<i64>,
    /// When a page was read last.
    pub last_pull_at: Option<Millis>,
    /// How many rows a pull usually brings.
    pub typical_rows: Option<i64>,
}

/// When a stream was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAge {
    /// Name of the connection.
    pub connection: String,
    /// Name of the stream.
    pub stream: String,
    /// When a page was read last.
    pub read: Option<Millis>,
    /// When the last scan ended that saw everything.
    pub whole: Option<Millis>,
}

impl Store {
    /// Where the reading of a stream stands; all empty before the first pull.
    pub async fn stream_state(&self, connection: &str, stream: &str) -> Result<StreamState> {
        let id = (self.tenant().to_owned(), connection.to_owned(), stream.to_owned());
        let row = Entity::find_by_id(id).one(self.reader()).await?;
        Ok(row.map_or_else(StreamState::default, |row| StreamState {
            watermark: row.watermark,
            clock_offset: row.clock_offset,
            deep_cursor: row.deep_cursor,
            open_scan: row.open_scan,
            last_complete_scan: row.last_complete_scan,
            last_pull_at: row.last_pull_at,
            typical_rows: row.typical_rows,
        }))
    }

    /// Every stream that was ever read, with when a page of it was read last and when a scan last saw all of it.
    pub async fn stream_ages(&self) -> Result<Vec<StreamAge>> {
        let rows = Entity::find()
            .filter(Column::Tenant.eq(self.tenant()))
            .order_by_asc(Column::Connection)
            .order_by_asc(Column::Stream)
            .all(self.reader())
            .await?;
        let mut ages = Vec::new();
        for row in rows {
            let whole = match row.last_complete_scan {
                Some(id) => self.scan(id).await?.and_then(|scan| scan.finished_at),
                None => None,
            };
            ages.push(StreamAge { connection: row.connection, stream: row.stream, read: row.last_pull_at, whole });
        }
        Ok(ages)
    }

    /// Stores where the reading of a stream stands.
    pub async fn save_stream_state(&self, connection: &str, stream: &str, state: &StreamState) -> Result<()> {
        let tx = self.begin().await?;
        save(&tx, self.tenant(), connection, stream, state).await?;
        Ok(tx.commit().await?)
    }
}

/// Stores the state inside the caller's transaction.
pub async fn save<C: ConnectionTrait>(
    tx: &C,
    tenant: &str,
    connection: &str,
    stream: &str,
    state: &StreamState,
) -> Result<()> {
    let row = ActiveModel {
        tenant: Set(tenant.to_owned()),
        connection: Set(connection.to_owned()),
        stream: Set(stream.to_owned()),
        watermark: Set(state.watermark),
        clock_offset: Set(state.clock_offset),
        deep_cursor: Set(state.deep_cursor.clone()),
        open_scan: Set(state.open_scan),
        last_complete_scan: Set(state.last_complete_scan),
        last_pull_at: Set(state.last_pull_at),
        typical_rows: Set(state.typical_rows),
    };
    let key = [Column::Tenant, Column::Connection, Column::Stream];
    Entity::insert(row)
        .on_conflict(OnConflict::columns(key).update_columns(Column::iter().skip(key.len())).to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
