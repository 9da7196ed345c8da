/*
 * What can be found wrong with a database: one list of all findings, with what lsm-repair does
 * about each. An id is a promise to scripts: it keeps its meaning for ever, and is not used again.
 *
 * The number is that of the pass that looks for it: 0 identity, 1 manifest, 2 inventory, 3 tables'
 * ends, 4 blocks, 5 blob files, 6 log, 7 across files, 8 what the processes share. A blob file has
 * the form of a table: what is wrong with its own bytes is found by the passes 2 to 4 and 7.
 */
#ifndef ENGINE_INSPECT_FINDING_H
#define ENGINE_INSPECT_FINDING_H

#include "engine/base/slice.h"

#define FINDING_PASS_COUNT 9

/* X(name, pass, severity, id, what it means, what lsm-repair does about it) */
/* clang-format off */
#define FINDING_LIST(X)                                                                            \
    X(CURRENT_MISSING, 0, LSM_DAMAGE, "0-current-missing",                                         \
      "CURRENT, which names the manifest in force, is not there",                                  \
      "written anew: it names the newest manifest that can be read")                               \
    X(CURRENT_DAMAGED, 0, LSM_DAMAGE, "0-current-damaged",                                         \
      "CURRENT is not what the library writes",                                                    \
      "written anew: it names the newest manifest that can be read")                               \
    X(NEWER_FORMAT, 0, LSM_DAMAGE, "0-newer-format",                                               \
      "a file was written by a newer version of the library",                                      \
      "nothing: use that version")                                                                 \
    X(MODE_OPEN, 0, LSM_WARNING, "0-mode-open",                                                    \
      "the directory or a file of it can be written by others",                                    \
      "nothing: see chmod(1)")                                                                     \
    X(OWNER_DIFFERS, 0, LSM_WARNING, "0-owner-differs",                                            \
      "a file belongs to another user than the directory",                                         \
      "nothing: see chown(1)")                                                                     \
    X(MOUNT_NO_BARRIER, 0, LSM_WARNING, "0-mount-no-barrier",                                      \
      "the file system does not wait for the device's write cache",                                \
      "nothing: mount it without nobarrier or barrier=0")                                          \
    X(MANIFEST_MISSING, 1, LSM_DAMAGE, "1-manifest-missing",                                       \
      "the manifest that CURRENT names is not there",                                              \
      "falls back on the generation before, else the manifest is rebuilt from the tables")         \
    X(MANIFEST_UNREADABLE, 1, LSM_DAMAGE, "1-manifest-unreadable",                                 \
      "the manifest that CURRENT names is no file that can be read",                               \
      "falls back on the generation before, else the manifest is rebuilt from the tables")         \
    X(MANIFEST_HEADER, 1, LSM_DAMAGE, "1-manifest-header",                                         \
      "the header of the manifest is damaged",                                                     \
      "corrected when one bit or byte is wrong; else read without it")                             \
    X(MANIFEST_FOREIGN, 1, LSM_DAMAGE, "1-manifest-foreign",                                       \
      "the manifest belongs to another database or has another number",                            \
      "falls back on the generation before, else the manifest is rebuilt from the tables")         \
    X(FRAME_CHECKSUM, 1, LSM_DAMAGE, "1-frame-checksum",                                           \
      "a frame of the manifest is damaged",                                                        \
      "corrected when one bit or byte is wrong; else replayed up to it and completed from "        \
      "the tables")                                                                                \
    X(FRAME_NUMBER, 1, LSM_DAMAGE, "1-frame-number",                                               \
      "frames of the manifest are missing or doubled: the numbers do not follow each other",       \
      "replayed up to it and completed from the tables")                                           \
    X(FRAME_CHAIN, 1, LSM_DAMAGE, "1-frame-chain",                                                 \
      "a frame of the manifest does not follow the one before",                                    \
      "replayed up to it and completed from the tables")                                           \
    X(EDIT_MALFORMED, 1, LSM_DAMAGE, "1-edit-malformed",                                           \
      "a frame of the manifest is whole, but its edit cannot be decoded",                          \
      "replayed up to it and completed from the tables")                                           \
    X(EDIT_REPLAY, 1, LSM_DAMAGE, "1-edit-replay",                                                 \
      "an edit of the manifest does not fit the edits before it",                                  \
      "replayed up to it and completed from the tables")                                           \
    X(NO_SNAPSHOT, 1, LSM_DAMAGE, "1-no-snapshot",                                                 \
      "the manifest does not begin with a snapshot of everything",                                 \
      "falls back on the generation before, else the manifest is rebuilt from the tables")         \
    X(MANIFEST_TORN, 1, LSM_NOTE, "1-torn-tail",                                                   \
      "the manifest ends in an edit that was never acknowledged",                                  \
      "cut off")                                                                                   \
    X(EDITS_LOST, 1, LSM_DAMAGE, "1-edits-lost",                                                   \
      "edits are missing behind the end of the manifest: LOCK knows of them, or a newer table is", \
      "completed from the tables")                                                                 \
    X(PREVIOUS_DAMAGED, 1, LSM_WARNING, "1-previous-damaged",                                      \
      "the manifest before the one in force, which is kept in reserve, is damaged",                \
      "left behind by the next manifest")                                                          \
    X(NEWER_GENERATION, 1, LSM_NOTE, "1-newer-generation",                                         \
      "there is a newer manifest than CURRENT names: a change of manifests was interrupted",       \
      "removed by the next opening")                                                               \
    X(FILE_COUNTER, 1, LSM_DAMAGE, "1-file-counter",                                               \
      "a live table has a number that the manifest says is not given out yet",                     \
      "counter is raised")                                                                         \
    X(SEQUENCE_COUNTER, 1, LSM_NOTE, "1-sequence-counter",                                         \
      "a live table holds sequence numbers above the manifest's last one",                         \
      "counter is raised")                                                                         \
    X(TABLE_MISSING, 2, LSM_DAMAGE, "2-table-missing",                                             \
      "a table that the manifest names is not there",                                              \
      "taken out of the manifest; its key range is reported as lost")                              \
    X(TABLE_SIZE, 2, LSM_DAMAGE, "2-table-size",                                                   \
      "a table has another size than the manifest says",                                           \
      "salvaged block by block")                                                                   \
    X(TABLE_ORPHAN, 2, LSM_NOTE, "2-table-orphan",                                                 \
      "a table that nobody names: replaced, or left by a process that died",                       \
      "removed by the next opening")                                                               \
    X(TABLE_UNFINISHED, 2, LSM_NOTE, "2-table-unfinished",                                         \
      "a table that somebody may be writing",                                                      \
      "nothing")                                                                                   \
    X(MANIFEST_OLD, 2, LSM_NOTE, "2-manifest-old",                                                 \
      "a manifest older than the two that are kept",                                               \
      "removed by the next opening")                                                               \
    X(TEMPORARY, 2, LSM_NOTE, "2-temporary",                                                       \
      "an unfinished file",                                                                        \
      "removed by the next opening")                                                               \
    X(FOREIGN_FILE, 2, LSM_NOTE, "2-foreign-file",                                                 \
      "a file that is none of the database's",                                                     \
      "left alone")                                                                                \
    X(ODD_NAME, 2, LSM_WARNING, "2-odd-name",                                                      \
      "a name that looks like one of the database's, but is spelled in another way",               \
      "left alone")                                                                                \
    X(SYMLINK, 2, LSM_DAMAGE, "2-symlink",                                                         \
      "a symbolic link in the place of a file of the database: it is never followed",              \
      "moved to lost+found; the file counts as missing")                                           \
    X(NOT_A_FILE, 2, LSM_DAMAGE, "2-not-a-file",                                                   \
      "something else than a file in the place of a file of the database",                         \
      "moved to lost+found; the file counts as missing")                                           \
    X(HARD_LINK, 2, LSM_WARNING, "2-hard-link",                                                    \
      "a file that changes has further names: what is written through them reaches it",            \
      "nothing: copy the file")                                                                    \
    X(UNREADABLE, 2, LSM_DAMAGE, "2-unreadable",                                                   \
      "a file of the database cannot be read",                                                     \
      "counts as missing")                                                                         \
    X(OTHER_DEVICE, 2, LSM_WARNING, "2-other-device",                                              \
      "a file of the database is on another file system",                                          \
      "nothing")                                                                                   \
    X(TABLE_SHORT, 3, LSM_DAMAGE, "3-table-short",                                                 \
      "a table is too short to be one",                                                            \
      "salvaged block by block")                                                                   \
    X(FOOTER_COPY, 3, LSM_DAMAGE, "3-footer-copy",                                                 \
      "one of the two footers of a table is damaged, the other is sound",                          \
      "table is written anew")                                                                     \
    X(FOOTER_LOST, 3, LSM_DAMAGE, "3-footer-lost",                                                 \
      "both footers of a table are damaged",                                                       \
      "salvaged block by block")                                                                   \
    X(FOOTERS_DIFFER, 3, LSM_DAMAGE, "3-footers-differ",                                           \
      "the two footers of a table are sound and differ",                                           \
      "salvaged block by block")                                                                   \
    X(TABLE_FOREIGN, 3, LSM_DAMAGE, "3-table-foreign",                                             \
      "a table belongs to another database or to another number",                                  \
      "taken out of the manifest; its key range is reported as lost")                              \
    X(INDEX_DAMAGED, 3, LSM_DAMAGE, "3-index-damaged",                                             \
      "the index of a table is damaged",                                                           \
      "table is written anew from its blocks")                                                     \
    X(INDEX_MALFORMED, 3, LSM_DAMAGE, "3-index-malformed",                                         \
      "the index of a table is whole, but cannot be decoded",                                      \
      "table is written anew from its blocks")                                                     \
    X(FILTER_DAMAGED, 3, LSM_DAMAGE, "3-filter-damaged",                                           \
      "the filter of a table is damaged",                                                          \
      "table is written anew from its blocks")                                                     \
    X(FILTER_MALFORMED, 3, LSM_DAMAGE, "3-filter-malformed",                                       \
      "the filter of a table is whole, but cannot be used",                                        \
      "table is written anew from its blocks")                                                     \
    X(PROPERTIES_DAMAGED, 3, LSM_DAMAGE, "3-properties-damaged",                                   \
      "the properties of a table are damaged",                                                     \
      "table is written anew from its blocks")                                                     \
    X(PROPERTIES_MALFORMED, 3, LSM_DAMAGE, "3-properties-malformed",                               \
      "the properties of a table are whole, but cannot be decoded",                                \
      "table is written anew from its blocks")                                                     \
    X(DICTIONARY_DAMAGED, 3, LSM_DAMAGE, "3-dictionary-damaged",                                   \
      "the dictionary of a table is damaged: blocks compressed with it cannot be read",            \
      "corrected when one bit or byte is wrong; else the blocks that need it are lost")            \
    X(PADDING, 3, LSM_DAMAGE, "3-padding",                                                         \
      "bytes of a table that have to be zero are not",                                             \
      "table is written anew from its blocks")                                                     \
    X(BLOCK_CHECKSUM, 4, LSM_DAMAGE, "4-block-checksum",                                           \
      "the checksum of a block differs: it is damaged, or in a wrong place",                       \
      "corrected when one bit or byte is wrong; else the block is left out and its key "           \
      "range reported as lost")                                                                    \
    X(BLOCK_HEADER, 4, LSM_DAMAGE, "4-block-header",                                               \
      "there is no block where one has to begin",                                                  \
      "left out; its key range is reported as lost")                                               \
    X(BLOCK_MISPLACED, 4, LSM_DAMAGE, "4-block-misplaced",                                         \
      "a block is whole, but belongs to another place or file",                                    \
      "left out; its key range is reported as lost")                                               \
    X(BLOCK_UNDECODABLE, 4, LSM_DAMAGE, "4-block-undecodable",                                     \
      "a block is whole, but cannot be decompressed",                                              \
      "left out; its key range is reported as lost")                                               \
    X(BLOCK_SIZE, 4, LSM_DAMAGE, "4-block-size",                                                   \
      "a block says a size that no block can have",                                                \
      "left out; its key range is reported as lost")                                               \
    X(BLOCK_MALFORMED, 4, LSM_DAMAGE, "4-block-malformed",                                         \
      "a block is whole, but its columns contradict each other",                                   \
      "left out; its key range is reported as lost")                                               \
    X(BLOCK_ORDER, 4, LSM_DAMAGE, "4-block-order",                                                 \
      "the entries of a block are not in order, or one is there twice",                            \
      "its entries are sorted into a new table")                                                   \
    X(BLOCKS_ORDER, 4, LSM_DAMAGE, "4-blocks-order",                                               \
      "a block does not begin behind the last entry of the block before",                          \
      "its entries are sorted into a new table")                                                   \
    X(BLOCK_TAGS, 4, LSM_DAMAGE, "4-block-tags",                                                   \
      "the tags of a block are not those of its keys: reads miss them",                            \
      "table is written anew from its blocks")                                                     \
    X(BLOCK_FAMILY, 4, LSM_DAMAGE, "4-block-family",                                               \
      "a block belongs to another column family than its table",                                   \
      "its entries go to the family of the block")                                                 \
    X(BLOCK_COUNT, 4, LSM_DAMAGE, "4-block-count",                                                 \
      "a block holds another number of entries than its frame says",                               \
      "table is written anew from its blocks")                                                     \
    X(BLOCK_SEQUENCE, 4, LSM_DAMAGE, "4-block-sequence",                                           \
      "a block holds sequence numbers that its frame does not allow",                              \
      "table is written anew from its blocks")                                                     \
    X(ENTRY_TYPE, 4, LSM_DAMAGE, "4-entry-type",                                                   \
      "an entry is of a type that this version of the library does not know",                      \
      "left out; its key is reported as lost")                                                     \
    X(KEY_OUTSIDE, 4, LSM_DAMAGE, "4-key-outside",                                                 \
      "a block holds keys outside of its table's range",                                           \
      "table is written anew from its blocks")                                                     \
    X(SEQUENCE_OUTSIDE, 4, LSM_DAMAGE, "4-sequence-outside",                                       \
      "a block holds sequence numbers outside of its table's range",                               \
      "table is written anew from its blocks")                                                     \
    X(BLOB_MISSING, 5, LSM_DAMAGE, "5-blob-missing",                                               \
      "a blob file that tables refer to is not there",                                             \
      "what refers to it is taken out of the tables; its keys are reported as lost")               \
    X(BLOB_ORPHAN, 5, LSM_NOTE, "5-blob-orphan",                                                   \
      "a blob file that no table refers to",                                                       \
      "removed by the next opening")                                                               \
    X(BLOB_UNFINISHED, 5, LSM_NOTE, "5-blob-unfinished",                                           \
      "a blob file that somebody may be writing",                                                  \
      "nothing")                                                                                   \
    X(BLOB_REFERENCE, 5, LSM_DAMAGE, "5-blob-reference",                                           \
      "an entry refers to a value that its blob file does not hold",                               \
      "left out; its key is reported as lost")                                                     \
    X(BLOB_COUNTS, 5, LSM_DAMAGE, "5-blob-counts",                                                 \
      "a table refers to more or less of a blob file than is said of it",                          \
      "table is written anew from its blocks")                                                     \
    X(STAGE_MISSING, 6, LSM_NOTE, "6-stage-missing",                                               \
      "the stage file, which holds the end of the log, is not there",                              \
      "nothing: the next opening makes it; what the segments hold is kept")                        \
    X(STAGE_SIZE, 6, LSM_DAMAGE, "6-stage-size",                                                   \
      "the stage file has a size that it cannot have",                                             \
      "what can be read is kept")                                                                  \
    X(STAGE_FOREIGN, 6, LSM_DAMAGE, "6-stage-foreign",                                             \
      "the stage file belongs to another database or to another time of this one",                 \
      "left out; what the segments hold is kept")                                                  \
    X(STAGE_TRAILER, 6, LSM_DAMAGE, "6-stage-trailer",                                             \
      "the end of the stage file, which says whose it is, is damaged",                             \
      "what can be read is kept")                                                                  \
    X(SEGMENT_MISSING, 6, LSM_DAMAGE, "6-segment-missing",                                         \
      "a segment of the log is not there",                                                         \
      "records behind it are kept; the gap is reported as lost")                                   \
    X(SEGMENT_HEADER, 6, LSM_DAMAGE, "6-segment-header",                                           \
      "the header of a segment of the log is damaged",                                             \
      "corrected when one bit or byte is wrong; else its records are found one by one")            \
    X(SEGMENT_FOREIGN, 6, LSM_DAMAGE, "6-segment-foreign",                                         \
      "a segment of the log belongs to another database or has another number",                    \
      "left out")                                                                                  \
    X(SEGMENT_SHORT, 6, LSM_DAMAGE, "6-segment-short",                                             \
      "a segment of the log is shorter than its header says",                                      \
      "records up to its end are kept")                                                            \
    X(RECORD_CHECKSUM, 6, LSM_DAMAGE, "6-record-checksum",                                         \
      "a record of the log is damaged, and later ones prove that it was durable",                  \
      "corrected when one bit or byte is wrong; else the record is left out and reported as "      \
      "lost")                                                                                      \
    X(RECORD_CHAIN, 6, LSM_DAMAGE, "6-record-chain",                                               \
      "a record of the log does not follow the one before",                                        \
      "records on both sides are kept; the gap is reported as lost")                               \
    X(RECORD_MALFORMED, 6, LSM_DAMAGE, "6-record-malformed",                                       \
      "a record of the log is whole, but its batch cannot be decoded",                             \
      "left out; reported as lost")                                                                \
    X(RECORD_SEQUENCE, 6, LSM_DAMAGE, "6-record-sequence",                                         \
      "the sequence numbers of the log go back",                                                   \
      "kept in the order of the log")                                                              \
    X(RECORD_FAMILY, 6, LSM_DAMAGE, "6-record-family",                                             \
      "a record of the log names a column family that never was",                                  \
      "its entries are reported as lost")                                                          \
    X(LOG_HOLE, 6, LSM_DAMAGE, "6-log-hole",                                                       \
      "the log does not reach back to where the tables end",                                       \
      "what there is is kept; the gap is reported as lost")                                        \
    X(LOG_TORN, 6, LSM_NOTE, "6-torn-tail",                                                        \
      "the log ends in a record that was never acknowledged",                                      \
      "cut off by the next opening")                                                               \
    X(CLOSED_BUT_LOG, 6, LSM_DAMAGE, "6-closed-but-log",                                           \
      "the manifest says that the log is empty, but there are records",                            \
      "they are kept")                                                                             \
    X(LEVEL_OVERLAP, 7, LSM_DAMAGE, "7-level-overlap",                                             \
      "tables of one level overlap",                                                               \
      "written anew into level 0")                                                                 \
    X(NEWER_BELOW, 7, LSM_DAMAGE, "7-newer-below",                                                 \
      "an older version of a key is above a newer one: reads may find the old one",                \
      "tables are put in order by sequence number")                                                \
    X(REPLACED_ALIVE, 7, LSM_DAMAGE, "7-replaced-alive",                                           \
      "a table is live together with one that replaced it: deleted keys may be back",              \
      "the replaced one is taken out of the manifest")                                             \
    X(META_DIFFERS, 7, LSM_DAMAGE, "7-meta-differs",                                               \
      "the manifest says something else of a table than its properties",                           \
      "the table's own word is taken after its blocks were read")                                  \
    X(PROPERTY_COUNTS, 7, LSM_DAMAGE, "7-property-counts",                                         \
      "the properties of a table count something else than its blocks hold",                       \
      "table is written anew from its blocks")                                                     \
    X(PROPERTY_RANGE, 7, LSM_DAMAGE, "7-property-range",                                           \
      "the properties of a table name another first or last key than its blocks hold",             \
      "table is written anew from its blocks")                                                     \
    X(PROPERTY_SEQUENCE, 7, LSM_DAMAGE, "7-property-sequence",                                     \
      "the properties of a table name other sequence numbers than its blocks hold",                \
      "table is written anew from its blocks")                                                     \
    X(DIGEST, 7, LSM_DAMAGE, "7-digest",                                                           \
      "the digest of a table differs from that of its bytes",                                      \
      "table is written anew from its blocks")                                                     \
    X(FILTER_MISSES, 7, LSM_DAMAGE, "7-filter-misses",                                             \
      "the filter of a table denies a key that is there: reads miss it",                           \
      "table is written anew from its blocks")                                                     \
    X(INDEX_SEPARATOR, 7, LSM_DAMAGE, "7-index-separator",                                         \
      "a separator in the index of a table is on the wrong side of an entry: reads miss it",       \
      "table is written anew from its blocks")                                                     \
    X(INDEX_BLOCKS, 7, LSM_DAMAGE, "7-index-blocks",                                               \
      "the index of a table names other blocks than there are",                                    \
      "table is written anew from its blocks")                                                     \
    X(FAMILY_UNKNOWN, 7, LSM_DAMAGE, "7-family-unknown",                                           \
      "a table belongs to a column family that does not exist",                                    \
      "moved to lost+found")                                                                       \
    X(LOCK_DAMAGED, 8, LSM_NOTE, "8-lock-damaged",                                                 \
      "LOCK holds something that no process wrote; nobody has the database open",                  \
      "nothing: it is no part of what is kept")                                                    \
    X(DEAD_PROCESS, 8, LSM_NOTE, "8-dead-process",                                                 \
      "a process died with the database open and was not cleaned up after yet",                    \
      "cleaned up by the next who needs its place")                                                \
    X(POISONED, 8, LSM_WARNING, "8-poisoned",                                                      \
      "a sync failed: the database only reads until all have closed it",                           \
      "nothing while it is open; checked as any other after")                                      \
    X(TAKEOVER_DUE, 8, LSM_NOTE, "8-takeover-due",                                                 \
      "a process died in a change; the next one who makes one finishes it",                        \
      "nothing")

/* clang-format on */

enum finding_id {
#define FINDING_ENUM(name, pass, severity, id, meaning, repair) FINDING_##name,
    FINDING_LIST(FINDING_ENUM)
#undef FINDING_ENUM
        FINDING_COUNT
};

struct finding_kind {
    const char *id;
    unsigned pass;
    lsm_severity severity;
    const char *meaning; /* lower-case, no full stop, as all sentences here */
    const char *repair;
};

const struct finding_kind *finding_kind_of(enum finding_id id);

/* The id that is spelled like this; FINDING_COUNT: none. */
enum finding_id finding_parse(const char *text);

/* Short names of the passes, for people and progress: "manifest". */
const char *finding_pass_name(unsigned pass);
/* "note", "warning", "damage" */
const char *finding_severity_name(lsm_severity severity);

/*
 * A finding of this kind with everything else unknown: no file, no family, no range, the text is
 * the kind's meaning.
 */
lsm_finding finding_of(enum finding_id id);

/* Sets what is given; slices are borrowed. */
void finding_place(lsm_finding *f, const char *file, uint64_t offset, uint64_t length);
void finding_numbers(lsm_finding *f, uint64_t expected, uint64_t found);
void finding_family(lsm_finding *f, uint32_t cf, const char *name);
void finding_range(lsm_finding *f, lsm_slice first, lsm_slice last);

#endif
