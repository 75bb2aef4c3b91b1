// What the debuggers' test looks into: a program with three threads that counts, crashes, gets a signal, makes a child,
// or waits to be attached to.

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int counter;
static volatile int touched;
static volatile int leave;
static pthread_barrier_t start;

static int square(int n)
{
    int result = n * n;
    result += 0;
    return result;
}

static void *worker(void *argument)
{
    pthread_barrier_wait(&start);
    if (argument)
        touched = 5;
    while (!leave)
        usleep(10000);
    return NULL;
}

static void crash(int *where)
{
    *where = 42;
}

static void on_signal(int number)
{
    counter = number;
}

static int child(void)
{
    counter = 3;
    return counter;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "count";
    pthread_t threads[2];
    int sum = 0, status = 0;

    if (!strcmp(what, "signal")) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        printf("signal %d\n", counter);
        return 0;
    }
    if (!strcmp(what, "fork")) {
        if (fork() == 0)
            _exit(child());
        wait(&status);
        printf("child %d\n", WEXITSTATUS(status));
        return 0;
    }
    pthread_barrier_init(&start, NULL, 3);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, worker, i ? what : NULL);
    if (!strcmp(what, "wait")) {
        // The threads stay at the barrier.
        for (;;)
            pause();
    }
    usleep(200000);
    if (!strcmp(what, "crash"))
        crash(NULL);
    sum = square(3);
    counter = sum;
    counter += square(4);
    pthread_barrier_wait(&start);
    leave = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("counter %d\n", counter);
    return counter == 25 ? 0 : 1;
}
