//! Scans: passes over a stream, and which records each of them has seen.
//!
//! A record number is one bit; 4096 of them make a chunk of 512 bytes. Nothing in memory grows with the
//! number of records.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect,
};

use super::sequence::{Sequence, draw};
use super::tables::{scan, scan_mark};
use super::{BATCH, Millis, Result, Store, StoreError};

/// One pass over a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Number of the scan.
    pub id: i64,
    /// The connection.
    pub connection: String,
    /// The stream.
    pub stream: String,
    /// How it reads.
    pub mode: String,
    /// When it began.
    pub started_at: Millis,
    /// When it ended.
    pub finished_at: Option<Millis>,
    /// Pages read.
    pub pages: i64,
    /// Rows read.
    pub rows: i64,
    /// Different records among them.
    pub distinct: i64,
    /// The total the vendor announced last.
    pub total: Option<i64>,
    /// The next page; opaque.
    pub cursor: Option<String>,
    /// How often it started over to catch rows that moved.
    pub passes: i64,
    /// Whether it surely saw everything.
    pub complete: bool,
    /// Why it did not.
    pub why: Option<String>,
}

impl Store {
    /// Begins a pass over a stream; the marks of earlier passes in the same mode are dropped.
    pub async fn begin_scan(&self, connection: &str, stream: &str, mode: &str, now: Millis) -> Result<Scan> {
        let tx = self.begin().await?;
        self.drop_marks(&tx, connection, stream, mode).await?;
        let scan = Scan {
            id: draw(&tx, Sequence::Scan, 1).await?,
            connection: connection.to_owned(),
            stream: stream.to_owned(),
            mode: mode.to_owned(),
            started_at: now,
            finished_at: None,
            pages: 0,
            rows: 0,
            distinct: 0,
            total: None,
            cursor: None,
            passes: 0,
            complete: false,
            why: None,
        };
        let mut row = self.scan_row(&scan);
        row.swept = Set(false);
        row.insert(&tx).await?;
        tx.commit().await?;
        Ok(scan)
    }

    /// One scan.
    pub async fn scan(&self, id: i64) -> Result<Option<Scan>> {
        let row =
            scan::Entity::find_by_id(id).filter(scan::Column::Tenant.eq(self.tenant())).one(self.reader()).await?;
        Ok(row.map(Scan::from))
    }

    /// When the last reading of a stream that came to an end began.
    pub async fn last_reading(&self, connection: &str, stream: &str) -> Result<Option<Millis>> {
        use scan::Column;
        let began: Option<Option<Millis>> = scan::Entity::find()
            .select_only()
            .column_as(Column::StartedAt.max(), "began")
            .filter(Column::Tenant.eq(self.tenant()))
            .filter(Column::Connection.eq(connection))
            .filter(Column::Stream.eq(stream))
            .filter(Column::FinishedAt.is_not_null())
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(began.flatten())
    }

    /// Stores a scan as it ended.
    pub async fn finish_scan(&self, scan: &Scan) -> Result<()> {
        let tx = self.begin().await?;
        self.save_scan(&tx, scan).await?;
        Ok(tx.commit().await?)
    }

    /// Stores counters and cursor inside the caller's transaction.
    pub(super) async fn save_scan<C: ConnectionTrait>(&self, tx: &C, scan: &Scan) -> Result<()> {
        let done = scan::Entity::update_many()
            .set(self.scan_row(scan))
            .filter(scan::Column::Id.eq(scan.id))
            .filter(scan::Column::Tenant.eq(self.tenant()))
            .exec(tx)
            .await?;
        if done.rows_affected == 0 {
            return Err(StoreError::NotFound { what: "scan", id: scan.id.to_string() });
        }
        Ok(())
    }

    async fn drop_marks<C: ConnectionTrait>(&self, tx: &C, connection: &str, stream: &str, mode: &str) -> Result<()> {
        let earlier = scan::Entity::find()
            .select_only()
            .column(scan::Column::Id)
            .filter(scan::Column::Tenant.eq(self.tenant()))
            .filter(scan::Column::Connection.eq(connection))
            .filter(scan::Column::Stream.eq(stream))
            .filter(scan::Column::Mode.eq(mode));
        scan_mark::Entity::delete_many()
            .filter(scan_mark::Column::ScanId.in_subquery(sea_orm::QueryTrait::into_query(earlier)))
            .exec(tx)
            .await?;
        Ok(())
    }

    fn scan_row(&self, scan: &Scan) -> scan::ActiveModel {
        scan::ActiveModel {
            id: Set(scan.id),
            tenant: Set(self.tenant().to_owned()),
            connection: Set(scan.connection.clone()),
            stream: Set(scan.stream.clone()),
            mode: Set(scan.mode.clone()),
            started_at: Set(scan.started_at),
            finished_at: Set(scan.finished_at),
            pages: Set(scan.pages),
            rows: Set(scan.rows),
            distinct: Set(scan.distinct),
            total: Set(scan.total),
            cursor: Set(scan.cursor.clone()),
            passes: Set(scan.passes),
            complete: Set(scan.complete),
            why: Set(scan.why.clone()),
            swept: sea_orm::ActiveValue::NotSet,
        }
    }
}

impl From<scan::Model> for Scan {
    fn from(row: scan::Model) -> Scan {
        Scan {
            id: row.id,
            connection: row.connection,
            stream: row.stream,
            mode: row.mode,
            started_at: row.started_at,
            finished_at: row.finished_at,
            pages: row.pages,
            rows: row.rows,
            distinct: row.distinct,
            total: row.total,
            cursor: row.cursor,
            passes: row.passes,
            complete: row.complete,
            why: row.why,
        }
    }
}

/// Record numbers in a chunk.
const CHUNK_BITS: i64 = 4096;
const CHUNK_BYTES: usize = (CHUNK_BITS / 8) as usize;

/// Which record numbers a scan has seen, for some chunks of them.
#[derive(Debug, Default)]
pub struct Marks {
    chunks: BTreeMap<i64, Vec<u8>>,
}

impl Marks {
    /// Reads the chunks that hold these record numbers.
    pub async fn read<C: ConnectionTrait>(db: &C, scan: i64, ids: &BTreeSet<i64>) -> Result<Marks> {
        let wanted: BTreeSet<i64> = ids.iter().map(|id| id / CHUNK_BITS).collect();
        let wanted: Vec<i64> = wanted.into_iter().collect();
        let mut chunks = BTreeMap::new();
        for part in wanted.chunks(BATCH) {
            let rows = scan_mark::Entity::find()
                .filter(scan_mark::Column::ScanId.eq(scan))
                .filter(scan_mark::Column::Chunk.is_in(part.iter().copied()))
                .all(db)
                .await?;
            for row in rows {
                let mut bits = row.bits;
                bits.resize(CHUNK_BYTES, 0);
                chunks.insert(row.chunk, bits);
            }
        }
        Ok(Marks { chunks })
    }

    /// Whether the scan has seen this record.
    pub fn contains(&self, id: i64) -> bool {
        let (chunk, byte, bit) = position(id);
        self.chunks.get(&chunk).is_some_and(|bits| bits[byte] & bit != 0)
    }

    /// Marks a record; true when it was not marked before.
    fn insert(&mut self, id: i64) -> bool {
        let (chunk, byte, bit) = position(id);
        let bits = self.chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK_BYTES]);
        let new = bits[byte] & bit == 0;
        bits[byte] |= bit;
        new
    }
}

fn position(id: i64) -> (i64, usize, u8) {
    let within = id.rem_euclid(CHUNK_BITS);
    (id.div_euclid(CHUNK_BITS), usize::try_from(within / 8).expect("less than a chunk"), 1 << (within % 8))
}

/// Marks these records as seen and returns how many were not before.
pub async fn mark<C: ConnectionTrait>(tx: &C, tenant: &str, scan: i64, ids: &BTreeSet<i64>) -> Result<u64> {
    let mut marks = Marks::read(tx, scan, ids).await?;
    let mut touched = BTreeSet::new();
    let mut first = 0;
    for &id in ids {
        if marks.insert(id) {
            first += 1;
            touched.insert(id.div_euclid(CHUNK_BITS));
        }
    }
    let rows: Vec<_> = touched
        .into_iter()
        .filter_map(|chunk| {
            let bits = marks.chunks.remove(&chunk)?;
            let row = scan_mark::Model { scan_id: scan, chunk, tenant: tenant.to_owned(), bits };
            Some(row.into_active_model())
        })
        .collect();
    for part in rows.chunks(BATCH) {
        scan_mark::Entity::insert_many(part.to_vec())
            .on_conflict(
                OnConflict::columns([scan_mark::Column::ScanId, scan_mark::Column::Chunk])
                    .update_column(scan_mark::Column::Bits)
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
    }
    Ok(first)
}
