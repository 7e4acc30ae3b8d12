//! Small facts about the installation, by key.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait};

use super::tables::meta::{ActiveModel, Column, Entity};
use super::{Result, Store};

impl Store {
    /// The value stored under `key`.
    pub async fn meta_get(&self, key: &str) -> Result<Option<String>> {
        let id = (self.tenant().to_owned(), key.to_owned());
        let row = Entity::find_by_id(id).one(self.reader()).await?;
        Ok(row.map(|row| row.value))
    }

    /// Stores a value under `key`, replacing what was there.
    pub async fn meta_set(&self, key: &str, value: &str) -> Result<()> {
        let row = ActiveModel {
            tenant: Set(self.tenant().to_owned()),
            key: Set(key.to_owned()),
            value: Set(value.to_owned()),
        };
        let tx = self.begin().await?;
        Entity::insert(row)
            .on_conflict(OnConflict::columns([Column::Tenant, Column::Key]).update_column(Column::Value).to_owned())
            .exec_without_returning(&tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Forgets what is stored under `key`.
    pub async fn meta_delete(&self, key: &str) -> Result<()> {
        let id = (self.tenant().to_owned(), key.to_owned());
        let tx = self.begin().await?;
        Entity::delete_by_id(id).exec(&tx).await?;
        Ok(tx.commit().await?)
    }
}
