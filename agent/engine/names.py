"""Data. Every component name of upstream, by kind: what an engine is asked for, not what it has."""

KNOWN: dict[str, str] = {
    "input": (
        "amqp_0_9 amqp_1 aws_cloudwatch_logs aws_dynamodb_cdc aws_kinesis aws_s3 aws_sqs "
        "azure_blob_storage azure_cosmosdb azure_queue_storage azure_table_storage batched "
        "beanstalkd broker cassandra cockroachdb_changefeed csv discord dynamic file gateway "
        "gcp_bigquery_select gcp_cloud_storage gcp_pubsub gcp_spanner_cdc generate git hdfs "
        "http_client http_server inproc jira kafka kafka_franz microsoft_sql_server_cdc mongodb "
        "mongodb_cdc mqtt mysql_cdc nanomsg nats nats_jetstream nats_kv nats_stream nsq "
        "ockam_kafka oracledb_cdc otlp_grpc otlp_http parquet pg_stream postgres_cdc pulsar "
        "read_until redis_list redis_pubsub redis_scan redis_streams redpanda redpanda_common "
        "redpanda_migrator resource salesforce salesforce_cdc salesforce_graphql schema_registry "
        "sequence sftp slack slack_users socket socket_server spicedb_watch splunk sql_raw "
        "sql_select stdin subprocess tigerbeetle_cdc timeplus twitter_search websocket zmq4"
    ),
    "processor": (
        "a2a_message archive avro awk aws_bedrock_chat aws_bedrock_embeddings "
        "aws_dynamodb_partiql aws_lambda azure_cosmosdb benchmark bloblang bounds_check branch "
        "cache cached catch cohere_chat cohere_embeddings cohere_rerank command compress "
        "couchbase crash decompress dedupe ffi for_each gcp_bigquery_select gcp_vertex_ai_chat "
        "gcp_vertex_ai_embeddings google_drive_download google_drive_list_labels "
        "google_drive_search grok group_by group_by_value http insert_part javascript jira "
        "jmespath jq json_schema log mapping metric mongodb msgpack mutation nats_kv "
        "nats_request_reply noop ollama_chat ollama_embeddings ollama_moderation "
        "openai_chat_completion openai_embeddings openai_image_generation openai_speech "
        "openai_transcription openai_translation parallel parquet parquet_decode parquet_encode "
        "parse_log processors protobuf qdrant rate_limit redis redis_script "
        "redpanda_data_transform resource retry schema_registry_decode schema_registry_encode "
        "select_parts sentry_capture slack_thread sleep split sql sql_insert sql_raw sql_select "
        "string_split subprocess switch sync_response text_chunker try try_catch unarchive wasm "
        "while workflow xml"
    ),
    "output": (
        "amqp_0_9 amqp_1 arc aws_dynamodb aws_kinesis aws_kinesis_firehose aws_s3 aws_sns aws_sqs "
        "azure_blob_storage azure_cosmosdb azure_data_lake_gen2 azure_queue_storage "
        "azure_table_storage beanstalkd broker cache cassandra couchbase cyborgdb cypher discord "
        "doris_stream_load drop drop_on dynamic elasticsearch_v8 elasticsearch_v9 fallback file "
        "gcp_bigquery gcp_bigquery_write_api gcp_cloud_storage gcp_pubsub hdfs http_client "
        "http_server iceberg inproc kafka kafka_franz mongodb mqtt nanomsg nats nats_jetstream "
        "nats_kv nats_stream nsq ockam_kafka opensearch otlp_grpc otlp_http pinecone pulsar "
        "pusher qdrant questdb redis_hash redis_list redis_pubsub redis_streams redpanda "
        "redpanda_common redpanda_migrator reject reject_errored resource retry salesforce_sink "
        "schema_registry sftp slack_post slack_reaction snowflake_put snowflake_streaming socket "
        "splunk_hec sql sql_insert sql_raw stdout subprocess switch sync_response timeplus "
        "websocket zmq4"
    ),
    "cache": (
        "aws_dynamodb aws_s3 couchbase file gcp_cloud_storage lru memcached memory mongodb "
        "multilevel nats_kv noop redis redpanda ristretto sql ttlru"
    ),
    "rate_limit": ("local redis"),
    "scanner": (
        "avro chunker csv decompress json_array json_documents lines re_match skip_bom switch tar "
        "to_the_end"
    ),
}
