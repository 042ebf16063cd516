//! What the survey finds: the catalog around the relations that shall move, as values.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A schema and a name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// The schema.
    pub schema: String,
    /// What is in it.
    pub name: String,
}

/// Everything that planning needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// The server's version, as `server_version_num`.
    pub version: i64,
    /// Who asked.
    pub role: Role,
    /// Relations in scope, their partitions and children, and the views above them.
    pub relations: BTreeMap<u32, Relation>,
    /// What depends on them and is not part of them.
    pub dependents: Vec<Dependent>,
    /// What the views among them read: (view, relation).
    pub reads: BTreeSet<(u32, u32)>,
    /// Where relations lie that these read or refer to and that are not described here.
    pub others: BTreeMap<u32, Name>,
    /// What already stands in the schemas in scope.
    pub occupied: Vec<Occupant>,
    /// Schemas that exist, and whether this role may create in them.
    pub schemas: BTreeMap<String, bool>,
    /// How many locks the server can hold, and how many it holds.
    pub locks: LockTable,
    /// Enabled event triggers that see what a move does.
    pub event_triggers: Vec<String>,
    /// Proof that nothing moved since: the versions of the catalog's rows about these relations.
    pub mark: String,
}

/// The role that unship works as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Roles that it is a member of, itself included.
    pub member_of: BTreeSet<String>,
}

/// The server's lock table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockTable {
    /// `max_locks_per_transaction × (max_connections + max_prepared_transactions)`.
    pub capacity: i64,
    /// Locks held now.
    pub held: i64,
}

/// Something that has a name in a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Where.
    pub name: Name,
    /// `relation`, `type` or `statistics`: names of one sort must differ within a schema.
    pub sort: String,
    /// What to call it.
    pub what: String,
    /// The relation that it belongs to and moves with; itself for a relation.
    pub relation: u32,
}

/// What kind of relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A table.
    #[serde(rename = "r")]
    Table,
    /// A partitioned table.
    #[serde(rename = "p")]
    Partitioned,
    /// A view.
    #[serde(rename = "v")]
    View,
    /// A materialised view.
    #[serde(rename = "m")]
    Materialized,
    /// A foreign table.
    #[serde(rename = "f")]
    Foreign,
    /// A sequence.
    #[serde(rename = "S")]
    Sequence,
}

impl Kind {
    /// The word in `ALTER … SET SCHEMA`.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Table | Self::Partitioned => "TABLE",
            Self::View => "VIEW",
            Self::Materialized => "MATERIALIZED VIEW",
            Self::Foreign => "FOREIGN TABLE",
            Self::Sequence => "SEQUENCE",
        }
    }

    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Partitioned => "partitioned table",
            Self::View => "view",
            Self::Materialized => "materialised view",
            Self::Foreign => "foreign table",
            Self::Sequence => "sequence",
        }
    }

    /// Whether `LOCK TABLE` takes it without locking anything else. On a view that statement locks
    /// all that the view reads, and a materialised view it does not take.
    pub(super) fn lockable(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }

    /// Whether it holds rows of its own under keys, defaults and triggers.
    pub(super) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }
}

/// One relation and everything that hangs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// Its identity.
    pub oid: u32,
    /// Where it lies.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its full name as PostgreSQL writes it in definitions.
    pub sql: String,
    /// What it is.
    pub kind: Kind,
    /// `p`ermanent, `u`nlogged or `t`emporary.
    pub persistence: String,
    /// Who owns it.
    pub owner: String,
    /// Who else has which right; `None` where nothing was ever granted or revoked.
    pub grants: Option<BTreeSet<Grant>>,
    /// Row security is on.
    pub row_security: bool,
    /// Row security binds the owner too.
    pub force_row_security: bool,
    /// Storage options (`fillfactor=70`, `toast.…`), or a view's options.
    pub options: Vec<String>,
    /// `d`efault, `n`othing, `f`ull or `i`ndex.
    pub replica_identity: String,
    /// Where it is stored, if not in the database's default.
    pub tablespace: Option<String>,
    /// How it is stored.
    pub access_method: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Security labels on it and its columns.
    pub labels: Vec<Label>,
    /// The type of a typed table.
    pub of_type: Option<String>,
    /// It is a partition.
    pub partition: bool,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// A materialised view that holds rows.
    pub populated: bool,
    /// What a view is, every name in it qualified.
    pub definition: Option<String>,
    /// The same, with names in the schemas that it reads unqualified.
    #[serde(default)]
    pub unqualified: Option<String>,
    /// Its columns, in order.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Its constraints.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Its indexes.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Its triggers, without those that only enforce a constraint.
    #[serde(default)]
    pub triggers: Vec<Attached>,
    /// Its rules, without the one that makes a view.
    #[serde(default)]
    pub rules: Vec<Attached>,
    /// Its row security policies.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Extended statistics on it.
    #[serde(default)]
    pub statistics: Vec<Statistics>,
    /// Publications that list it by name.
    #[serde(default)]
    pub publications: Vec<Publication>,
    /// Sequences that belong to its columns.
    #[serde(default)]
    pub sequences: Vec<Sequence>,
    /// What it inherits from or is a partition of.
    #[serde(default)]
    pub parents: Vec<u32>,
}

impl Relation {
    /// Schema and name.
    pub(super) fn at(&self) -> Name {
        Name::new(&*self.schema, &*self.name)
    }

    /// A column by name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// A right that a role has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Who; `None` is everybody.
    pub to: Option<String>,
    /// What.
    pub privilege: String,
    /// And may pass it on.
    pub grantable: bool,
}

/// A security label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Whose.
    pub provider: String,
    /// The label.
    pub label: String,
    /// On this column, or on the relation.
    pub column: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number, which dependents refer to.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, qualified, with modifier.
    #[serde(rename = "type")]
    pub of: String,
    /// Its collation where it is not the type's.
    pub collation: Option<String>,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Its default, or the expression it is generated from.
    pub default: Option<String>,
    /// `a`lways or by `d`efault.
    pub identity: Option<String>,
    /// `s`tored or `v`irtual.
    pub generated: Option<String>,
    /// Statistics target; negative is the default.
    pub statistics: i64,
    /// How long values are stored, where it is not the type's way.
    pub storage: Option<String>,
    /// How they are compressed.
    pub compression: Option<String>,
    /// `n_distinct=…`.
    pub options: Vec<String>,
    /// Who has which right on it alone.
    pub grants: Option<BTreeSet<Grant>>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// `c`heck, `f`oreign, `p`rimary, `u`nique, e`x`clusion, `n`ot null, `t`rigger.
    pub kind: String,
    /// Its definition.
    pub definition: String,
    /// What it refers to.
    pub foreign: Option<u32>,
    /// The definition of a foreign key up to the name of what it refers to, and that name.
    pub prefix: Option<String>,
    /// That name, as PostgreSQL writes it.
    pub target: Option<String>,
    /// It came from a parent.
    pub inherited: bool,
    /// The columns of its relation that it uses.
    pub columns: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its definition.
    pub definition: String,
    /// The definition up to and with the table's name.
    pub prefix: String,
    /// It makes sure of a constraint of the same name.
    pub constraint: bool,
    /// It is used for replication.
    pub replica_identity: bool,
    /// The table was clustered by it.
    pub clustered: bool,
    /// It can be used.
    pub valid: bool,
    /// It belongs to an index of the parent.
    pub inherited: bool,
    /// Statistics targets of expression columns: (number, target).
    pub statistics: Vec<(i16, i64)>,
    /// The columns of its relation that it uses.
    pub columns: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A trigger or a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Its definition.
    pub definition: String,
    /// `O`rigin, `D`isabled, `R`eplica, `A`lways.
    pub enabled: String,
    /// It came from a parent.
    pub inherited: bool,
    /// The columns of its relation that it uses.
    pub columns: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A row security policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// `r`, `a`, `w`, `d` or `*`.
    pub command: String,
    /// Adds rows, or takes them away.
    pub permissive: bool,
    /// For whom; `None` is everybody.
    pub roles: Vec<Option<String>>,
    /// Which rows are seen.
    #[serde(rename = "using")]
    pub sees: Option<String>,
    /// Which rows may be written.
    pub check: Option<String>,
    /// The columns of its relation that it uses.
    pub columns: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// An extended statistics object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Where it lies: not always beside its table.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its definition.
    pub definition: String,
    /// Its name in the definition.
    pub sql: String,
    /// Its statistics target; negative is the default.
    pub target: i64,
    /// The columns of its relation that it uses.
    pub columns: Vec<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A publication that lists a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// Which columns, if not all.
    pub columns: Option<Vec<String>>,
    /// Which rows, if not all.
    pub rows: Option<String>,
}

/// A sequence that belongs to a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The column.
    pub column: String,
    /// It is an identity column's.
    pub identity: bool,
    /// Its type.
    #[serde(rename = "type")]
    pub of: String,
    /// First value.
    pub start: i64,
    /// Step.
    pub increment: i64,
    /// Least.
    pub min: i64,
    /// Greatest.
    pub max: i64,
    /// Values handed out at a time.
    pub cache: i64,
    /// Starts again at the end.
    pub cycle: bool,
    /// Who else has which right.
    pub grants: Option<BTreeSet<Grant>>,
    /// Its comment.
    pub comment: Option<String>,
}

impl Sequence {
    /// Schema and name.
    pub(super) fn at(&self) -> Name {
        Name::new(&*self.schema, &*self.name)
    }

    /// Its settings, for `CREATE SEQUENCE` and for an identity column.
    pub(super) fn settings(&self) -> String {
        format!(
            "INCREMENT BY {} MINVALUE {} MAXVALUE {} START WITH {} CACHE {} {}CYCLE",
            self.increment,
            self.min,
            self.max,
            self.start,
            self.cache,
            if self.cycle { "" } else { "NO " }
        )
    }
}

/// Something that depends on a relation and is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// The relation that it depends on.
    pub on: u32,
    /// Through its `relation`, `row type`, `array type`, `constraint`, `index` or `sequence`.
    pub through: String,
    /// The column that it uses; 0 is the whole.
    pub column: i16,
    /// The catalog that it is in.
    pub catalog: String,
    /// Its identity in that catalog.
    pub oid: u32,
    /// The relation that it belongs to, with kind and place.
    pub relation: Option<u32>,
    /// That relation's kind.
    pub kind: Option<String>,
    /// Where it lies.
    pub place: Option<Name>,
    /// Its own name, of a rule, policy, constraint or function.
    pub name: String,
    /// What to call it.
    pub what: String,
    /// A function's or rule's definition.
    pub definition: Option<String>,
    /// What else there is to a function.
    pub routine: Option<Routine>,
    /// A policy's expressions.
    #[serde(rename = "using")]
    pub sees: Option<String>,
    /// The same, for what is written.
    pub check: Option<String>,
}

/// What a function's definition does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routine {
    /// Its name with the types of its arguments.
    pub identity: String,
    /// Who owns it.
    pub owner: String,
    /// Who else may call it; `None` is everybody.
    pub grants: Option<BTreeSet<Grant>>,
    /// Its comment.
    pub comment: Option<String>,
    /// It belongs to an extension.
    pub extension: bool,
    /// Something that depends on it.
    pub used_by: Option<String>,
}
