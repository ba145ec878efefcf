"""Settings of the result stores that are classes of an installed Celery, as Celery has them.

In:  nothing.  Out: rows for table.py, and the schemes of result_backend with which each has an effect.
Source: `celery.app.defaults` of Celery 5.7, and what the modules in celery/backends/ read.
"""

from __future__ import annotations

from qcore.settings.servers import (
    NUMBER,
    OPT_INT,
    OPT_MAPPING,
    OPT_NUMBER,
    OPT_SEQUENCE,
    OPT_TEXT,
    Setting,
)

#: beginning of a setting's name -> the schemes of its store
SCHEMES = {
    "arangodb": "arangodb",
    "azureblockblob": "azureblockblob",
    "cassandra": "cassandra",
    "cosmosdbsql": "cosmosdbsql",
    "couchbase": "couchbase",
    "dynamodb": "dynamodb",
    "elasticsearch": "elasticsearch",
    "gcs": "gs",
    "mongodb": "mongodb",
    "s3": "s3",
}
#: of those, the stores that no test of qcore runs on a server
UNTESTED = frozenset(SCHEMES) - {"azureblockblob", "dynamodb", "s3"}
#: settings without a default in Celery, which its classes read all the same
UNLISTED = frozenset(("cassandra_secure_bundle_path", "firestore_project"))

STORES: tuple[Setting, ...] = (
    Setting(
        "arangodb_backend_settings",
        OPT_MAPPING,
        None,
        "what the URL does not say: host, port, database, collection, username, password, http_protocol",
    ),
    Setting("azureblockblob_container_name", (str,), "celery", "the container of the blobs"),
    Setting("azureblockblob_base_path", (str,), "", "before the name of each blob"),
    Setting("azureblockblob_connection_timeout", NUMBER, 20, "seconds to wait for a connection"),
    Setting("azureblockblob_read_timeout", NUMBER, 120, "seconds to wait for an answer"),
    Setting("cassandra_servers", OPT_SEQUENCE, None, "hosts of the cluster"),
    Setting("cassandra_port", OPT_INT, None, "their port; None: 9042"),
    Setting("cassandra_keyspace", OPT_TEXT, None, "the keyspace of the table"),
    Setting("cassandra_table", OPT_TEXT, None, "the table of the results"),
    Setting("cassandra_read_consistency", OPT_TEXT, None, "consistency of reads; None: LOCAL_QUORUM"),
    Setting("cassandra_write_consistency", OPT_TEXT, None, "consistency of writes; None: LOCAL_QUORUM"),
    Setting("cassandra_entry_ttl", OPT_INT, None, "seconds until Cassandra deletes a result; None: never"),
    Setting("cassandra_auth_provider", OPT_TEXT, None, "a class of cassandra.auth"),
    Setting("cassandra_auth_kwargs", OPT_MAPPING, None, "its arguments"),
    Setting("cassandra_options", OPT_MAPPING, {}, "options of cassandra.cluster.Cluster"),
    Setting("cosmosdbsql_database_name", (str,), "celerydb", "the database, made if it does not exist"),
    Setting("cosmosdbsql_collection_name", (str,), "celerycol", "the collection, made if it does not exist"),
    Setting("cosmosdbsql_consistency_level", (str,), "Session", "a level of pydocumentdb's ConsistencyLevel"),
    Setting("cosmosdbsql_max_retry_attempts", NUMBER, 9, "how often a request is tried again"),
    Setting("cosmosdbsql_max_retry_wait_time", NUMBER, 30, "longest seconds to wait for that"),
    Setting(
        "couchbase_backend_settings",
        OPT_MAPPING,
        None,
        "what the URL does not say: host, port, bucket, username, password",
    ),
    Setting("dynamodb_endpoint_url", OPT_TEXT, None, "URL of the service, instead of the region's"),
    Setting("elasticsearch_timeout", OPT_NUMBER, None, "seconds to wait for an answer; None: 10"),
    Setting("elasticsearch_max_retries", OPT_INT, None, "how often a request is tried again; None: 3"),
    Setting("elasticsearch_retry_on_timeout", (bool, type(None)), None, "also after a time-out"),
    Setting(
        "elasticsearch_save_meta_as_text",
        (bool,),
        True,
        "store a result as one text; false: as a document, whose value and traceback are texts",
    ),
    Setting("gcs_bucket", OPT_TEXT, None, "the bucket, when the URL has none"),
    Setting("gcs_base_path", (str,), "", "before the name of each object, when the URL has none"),
    Setting("gcs_project", OPT_TEXT, None, "the project of Google Cloud"),
    Setting("gcs_ttl", NUMBER, 0, "seconds until a result expires by the bucket's life-cycle rule; 0: never"),
    Setting("gcs_threadpool_maxsize", (int,), 10, "connections to the service"),
    Setting(
        "mongodb_backend_settings",
        OPT_MAPPING,
        None,
        "database, taskmeta_collection, groupmeta_collection, host, port, user, password, and MongoClient's "
        "options",
    ),
    Setting("s3_bucket", OPT_TEXT, None, "the bucket of the results"),
    Setting("s3_base_path", OPT_TEXT, None, "before the key of each result"),
    Setting("s3_region", OPT_TEXT, None, "the region"),
    Setting("s3_endpoint_url", OPT_TEXT, None, "URL of the service, instead of Amazon's"),
    Setting("s3_access_key_id", OPT_TEXT, None, "the access key; None: boto3 looks for one"),
    Setting("s3_secret_access_key", OPT_TEXT, None, "its secret"),
)


def scheme_of(name: str) -> str | None:
    """The scheme of result_backend with which a setting of this file has an effect; None for all others."""
    return SCHEMES.get(name.partition("_")[0]) if any(row.name == name for row in STORES) else None
