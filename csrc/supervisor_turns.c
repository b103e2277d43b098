/*
 * Who of a tree's workers receives next. One at a time does: the kernel wakes everybody who receives, and on the CPU of
 * the program that asks, where the others would only be in the way. While one worker is enough the others sleep, so
 * that a question costs no more than with a single thread. Where questions have to wait for the answers to others
 * (and the processors are there for it), each worker wakes the next one when it has received; when that has been in vain for long enough, one is enough again.
 */
#include <poll.h>

#include "supervisor.h"

#define MOST 8u         /* workers of a tree, where some take long */
#define EVERY 8u        /* after so many questions a lone worker looks whether another one waits */
#define SEEN 4u         /* such a look weighs as much as so many in vain */
#define CROWDED 8u      /* from here on the next worker is woken */
#define PATIENCE 256u   /* questions without company, until one worker is enough again */

static bool others_wait(const struct pt_tree *tree)
{
	struct pollfd p = { .fd = tree->listener, .events = POLLIN };
	return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

void pt_turn_begin(struct pt_tree *tree)
{
	tree->turn.workers = 1;
	tree->turn.useful = tree->sup->workers < MOST ? tree->sup->workers : MOST;
	pthread_mutex_init(&tree->turn.lock, NULL);
	pthread_cond_init(&tree->turn.free, NULL);
}

/* With the lock held, and nobody receiving. */
static void wake_another(struct pt_tree *tree, unsigned most)
{
	if (tree->turn.waiting)
		pthread_cond_signal(&tree->turn.free);
	else if (tree->turn.workers < most && pt_tree_hire(tree))
		tree->turn.workers++;
}

/* Alone: is there another question already? The program that asked this one does not go on before it is answered. */
static void look_around(struct pt_tree *tree)
{
	if (tree->turn.useful < 2 || tree->turn.crowd >= CROWDED || ++tree->turn.alone % EVERY)
		return;
	if (others_wait(tree))
		tree->turn.crowd += SEEN;
	else if (tree->turn.crowd)
		tree->turn.crowd--;
	if (tree->turn.crowd >= CROWDED)
		tree->turn.crowd += PATIENCE;
}

bool pt_turn_take(struct pt_tree *tree)
{
	pthread_mutex_lock(&tree->turn.lock);
	while (tree->turn.taken && !tree->turn.over) {
		tree->turn.waiting++;
		pthread_cond_wait(&tree->turn.free, &tree->turn.lock);
		tree->turn.waiting--;
	}
	bool mine = !tree->turn.over;
	tree->turn.taken = mine;
	pthread_mutex_unlock(&tree->turn.lock);
	return mine;
}

void pt_turn_pass(struct pt_tree *tree)
{
	pthread_mutex_lock(&tree->turn.lock);
	tree->turn.taken = false;
	look_around(tree);
	if (tree->turn.crowd >= CROWDED) {
		if (tree->turn.busy)
			tree->turn.crowd = CROWDED + PATIENCE;
		else if (--tree->turn.crowd < CROWDED)
			tree->turn.crowd = 0;
		wake_another(tree, tree->turn.useful);
	}
	tree->turn.busy++;
	pthread_mutex_unlock(&tree->turn.lock);
}

void pt_turn_done(struct pt_tree *tree)
{
	pthread_mutex_lock(&tree->turn.lock);
	tree->turn.busy--;
	pthread_mutex_unlock(&tree->turn.lock);
}

static void leave_to_others(struct pt_tree *tree, unsigned most)
{
	pthread_mutex_lock(&tree->turn.lock);
	if (!tree->turn.taken && !tree->turn.over)
		wake_another(tree, most);
	pthread_mutex_unlock(&tree->turn.lock);
}

void pt_turn_long(struct pt_tree *tree)
{
	leave_to_others(tree, MOST);
}

void pt_turn_moment(struct pt_tree *tree)
{
	leave_to_others(tree, tree->turn.useful > 2 ? tree->turn.useful : 2);
}

void pt_turn_over(struct pt_tree *tree)
{
	pthread_mutex_lock(&tree->turn.lock);
	tree->turn.over = true;
	pthread_cond_broadcast(&tree->turn.free);
	pthread_mutex_unlock(&tree->turn.lock);
}

bool pt_turn_leave(struct pt_tree *tree)
{
	pthread_mutex_lock(&tree->turn.lock);
	bool last = --tree->turn.workers == 0;
	pthread_mutex_unlock(&tree->turn.lock);
	return last;
}
