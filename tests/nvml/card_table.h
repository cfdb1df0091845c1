/* The table that the stand-in for NVML and simulated programs share: which program holds what on which card.
 *
 * It is a file, named by STANDIN_TABLE, that all of them map. tests/nvml/simulated_card.py makes it, describes
 * the cards, and clears the slots of programs that were killed.
 */
#ifndef CARD_TABLE_H
#define CARD_TABLE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TABLE_CARDS = 16, TABLE_SLOTS = 512 };

typedef struct {
    char uuid[96];
    uint64_t total, reserved;  /* bytes; reserved by the driver itself */
} table_card;
typedef struct {
    int32_t pid;       /* 0: the slot is free */
    uint32_t cards;    /* a bit for each card, in the order of the table */
    uint64_t bytes;    /* that it holds on each of its cards, with its context */
    double percent;    /* of each card that its work takes when it is alone; 0: it does not work now */
} table_slot;
typedef struct {
    uint32_t cards, unused;
    table_card card[TABLE_CARDS];
    table_slot slot[TABLE_SLOTS];
} card_table;

/* Return the table, or NULL if there is none; `file` gets its descriptor. */
static volatile card_table *map_table(int *file) {
    const char *path = getenv("STANDIN_TABLE");
    struct stat status;
    *file = path && *path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (*file < 0) return NULL;
    if (fstat(*file, &status) || status.st_size < (off_t)sizeof(card_table)) {
        close(*file);
        return NULL;
    }
    void *found = mmap(NULL, sizeof(card_table), PROT_READ | PROT_WRITE, MAP_SHARED, *file, 0);
    return found == MAP_FAILED ? NULL : found;
}

/* Return the sum of the loads on a card in percent; above 100 all work there is slowed. */
static double load_of(volatile card_table *table, int card) {
    double sum = 0;
    for (int i = 0; i < TABLE_SLOTS; i++)
        if (table->slot[i].pid && table->slot[i].cards >> card & 1) sum += table->slot[i].percent;
    return sum;
}

#endif
