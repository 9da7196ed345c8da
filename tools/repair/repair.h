/* What lsm-repair says of a repair: for people, as one JSON object, and as a report in a file. */
#ifndef TOOLS_REPAIR_REPAIR_H
#define TOOLS_REPAIR_REPAIR_H

#include "tools/cli/cli.h"
#include "tools/cli/json.h"

struct repair_output {
    struct cli *cli;
    bool shows_data;
    bool is_dry;
    struct json_object *object; /* owned; of --json and --report; NULL: neither */
    struct json_object *steps, *losses, *done, *rounds; /* of it */
    unsigned round; /* of the last step that was told; 0: none yet */
    struct repair_round_count {
        uint64_t steps, exact, losses;
    } count;            /* of that round */
    uint64_t untold;    /* steps and losses over what one object holds */
    bool has_losses;    /* a line of one was printed in this round */
    bool has_uncounted; /* of one nobody knows how much it was */
};

void repair_output_begin(struct repair_output *o);
void repair_output_step(struct repair_output *o, const lsm_repair_step *step);
void repair_output_loss(struct repair_output *o, const lsm_loss *loss);
void repair_output_done(struct repair_output *o, const char *text);
void repair_output_result(struct repair_output *o, const lsm_repair_result *result);
/* Writes the object to a file, whole or not at all. Returns the exit code. */
int repair_output_report(struct repair_output *o, const char *path);

#endif
