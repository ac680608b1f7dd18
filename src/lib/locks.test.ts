/**
 * Examples of each rule of the head comment; then both locks against a model that holds a plain
 * queue.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { AssertionError } from "./assert.ts";
import { realClock } from "./clock.ts";
import { AsyncMutex, AsyncRwLock, WaitQueue } from "./locks.ts";
import type { MaybeAsync } from "./maybe.ts";

/** Notes in `order` who got the lock, and who gave up. */
function follow(order: string[], name: string, lock: MaybeAsync<void>): void {
  if (lock === undefined) order.push(name);
  else
    void lock.then(
      () => order.push(name),
      (reason: unknown) => order.push(`${name} ${String(reason)}`),
    );
}

describe("WaitQueue", () => {
  test("wakes in the order they came, one or all", async () => {
    const queue = new WaitQueue();
    const order: string[] = [];
    for (const name of ["a", "b", "c"]) follow(order, name, queue.wait());
    expect([queue.length, queue.wakeOne()]).toEqual([3, true]);
    await realClock.turn();
    expect(order).toEqual(["a"]);
    queue.wakeAll();
    await realClock.turn();
    expect(order).toEqual(["a", "b", "c"]);
    expect([queue.length, queue.wakeOne()]).toEqual([0, false]);
  });

  test("wakes only those who wait when it is called", async () => {
    const queue = new WaitQueue();
    const order: string[] = [];
    follow(
      order,
      "first",
      queue.wait().then(() => follow(order, "again", queue.wait())),
    );
    queue.wakeAll();
    await realClock.turn();
    expect([order, queue.length]).toEqual([["first"], 1]);
  });

  test.each([0, 1, 2])("waiter %i of three leaves with its reason", async (leaver) => {
    const queue = new WaitQueue();
    const order: string[] = [];
    const abort = new AbortController();
    for (const at of [0, 1, 2])
      follow(order, `${at}`, queue.wait(at === leaver ? abort.signal : undefined));
    abort.abort("bored");
    expect(queue.length).toBe(2);
    follow(order, "3", queue.wait());
    queue.wakeAll();
    await realClock.turn();
    expect([...order].sort()).toEqual(
      ["0", "1", "2", "3"].map((n) => (n === `${leaver}` ? `${n} bored` : n)),
    );
    expect(order.filter((name) => !name.includes("bored"))).toEqual(
      ["0", "1", "2", "3"].filter((n) => n !== `${leaver}`),
    );
  });

  test("does not queue who is aborted already", async () => {
    const queue = new WaitQueue();
    const reason = { because: "of the test" };
    await expect(queue.wait(AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(queue.length).toBe(0);
  });

  test("leaves no listener on a signal that outlives the wait", async () => {
    const queue = new WaitQueue();
    const abort = new AbortController();
    let listeners = 0;
    const { signal } = abort;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...rest: Parameters<typeof add>) => {
      listeners++;
      add(...rest);
    };
    signal.removeEventListener = (...rest: Parameters<typeof remove>) => {
      listeners--;
      remove(...rest);
    };
    const waits = [queue.wait(signal), queue.wait(signal)];
    expect(listeners).toBe(2);
    queue.wakeAll();
    await Promise.all(waits);
    expect(listeners).toBe(0);
  });
});

describe("AsyncMutex", () => {
  test("is taken without a promise while it is free, whatever the signal", () => {
    const mutex = new AsyncMutex();
    expect(mutex.lock(AbortSignal.abort())).toBeUndefined();
    expect([mutex.isLocked, mutex.tryLock()]).toEqual([true, false]);
    mutex.unlock();
    expect([mutex.isLocked, mutex.tryLock()]).toEqual([false, true]);
  });

  test("passes to the first waiter at once, so that nobody takes it in between", async () => {
    const mutex = new AsyncMutex();
    const order: string[] = [];
    follow(order, "a", mutex.lock());
    follow(order, "b", mutex.lock());
    expect(mutex.waiterCount).toBe(1);
    mutex.unlock();
    expect([mutex.isLocked, mutex.tryLock(), order]).toEqual([true, false, ["a"]]);
    await realClock.turn();
    expect(order).toEqual(["a", "b"]);
  });

  test("stays with who got it when its signal is aborted a moment later", async () => {
    const mutex = new AsyncMutex();
    const abort = new AbortController();
    void mutex.lock();
    const order: string[] = [];
    follow(order, "waiter", mutex.lock(abort.signal));
    mutex.unlock();
    abort.abort("late");
    await realClock.turn();
    expect([order, mutex.isLocked]).toEqual([["waiter"], true]);
  });

  test("an aborted waiter does not get it", async () => {
    const mutex = new AsyncMutex();
    const abort = new AbortController();
    void mutex.lock();
    const order: string[] = [];
    follow(order, "waiter", mutex.lock(abort.signal));
    abort.abort("bored");
    mutex.unlock();
    await realClock.turn();
    expect([order, mutex.isLocked]).toEqual([["waiter bored"], false]);
  });

  test("unlocking a free one is a bug in the caller", () => {
    expect(() => new AsyncMutex().unlock()).toThrow(AssertionError);
  });
});

describe("AsyncRwLock", () => {
  test("readers share, a writer is alone", () => {
    const lock = new AsyncRwLock();
    expect([lock.tryRead(), lock.tryRead(), lock.tryWrite()]).toEqual([true, true, false]);
    expect(lock.readerCount).toBe(2);
    lock.unlockRead();
    lock.unlockRead();
    expect([lock.tryWrite(), lock.tryRead(), lock.tryWrite()]).toEqual([true, false, false]);
    expect(lock.isWriteLocked).toBe(true);
  });

  test("a reader does not overtake a waiting writer, nor readers the next one", async () => {
    const lock = new AsyncRwLock();
    const order: string[] = [];
    void lock.read();
    follow(order, "w1", lock.write());
    follow(order, "r1", lock.read());
    follow(order, "r2", lock.read());
    follow(order, "w2", lock.write());
    follow(order, "r3", lock.read());
    expect([lock.tryRead(), lock.waiterCount]).toEqual([false, 5]);
    lock.unlockRead();
    await realClock.turn();
    expect(order).toEqual(["w1"]);
    lock.unlockWrite();
    await realClock.turn();
    expect(order).toEqual(["w1", "r1", "r2"]);
    lock.unlockRead();
    await realClock.turn();
    expect(order).toEqual(["w1", "r1", "r2"]);
    lock.unlockRead();
    lock.unlockWrite();
    await realClock.turn();
    expect(order).toEqual(["w1", "r1", "r2", "w2", "r3"]);
  });

  test("readers behind an aborted writer move up at once", async () => {
    const lock = new AsyncRwLock();
    const abort = new AbortController();
    const order: string[] = [];
    void lock.read();
    follow(order, "w", lock.write(abort.signal));
    follow(order, "r", lock.read());
    abort.abort("bored");
    await realClock.turn();
    expect([...order].sort()).toEqual(["r", "w bored"]);
    expect(lock.readerCount).toBe(2);
  });

  test("giving up what is not held is a bug in the caller", () => {
    const lock = new AsyncRwLock();
    expect(() => lock.unlockRead()).toThrow(AssertionError);
    expect(() => lock.unlockWrite()).toThrow(AssertionError);
    void lock.read();
    expect(() => lock.unlockWrite()).toThrow(AssertionError);
  });

  test("behaves as a queue served from its head, whatever is done to it", async () => {
    const step = fc.tuple(
      fc.constantFrom("read", "write", "tryRead", "tryWrite", "unlock", "abort"),
      fc.nat(7),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        const lock = new AsyncRwLock();
        const got: string[] = [];
        const model = { holders: [] as string[], queue: [] as string[], got: [] as string[] };
        const aborts = new Map<string, AbortController>();
        const serve = () => {
          for (let head = model.queue[0]; head !== undefined; head = model.queue[0]) {
            const isFree = model.holders.length === 0;
            const isShared = head.startsWith("r") && model.holders.every((h) => h.startsWith("r"));
            if (!isFree && !isShared) return;
            model.holders.push(head);
            model.got.push(head);
            model.queue.shift();
          }
        };
        for (const [number, [kind, which]] of steps.entries()) {
          const name = `${kind === "read" || kind === "tryRead" ? "r" : "w"}${number}`;
          if (kind === "read" || kind === "write") {
            const abort = new AbortController();
            aborts.set(name, abort);
            follow(got, name, lock[kind](abort.signal));
            model.queue.push(name);
            serve();
          } else if (kind === "tryRead" || kind === "tryWrite") {
            const wasIdle = model.queue.length === 0;
            if (wasIdle) {
              model.queue.push(name);
              serve();
            }
            const mayHave = wasIdle && model.queue.length === 0;
            model.queue = model.queue.filter((other) => other !== name);
            expect(lock[kind]()).toBe(mayHave);
            if (mayHave) got.push(name);
          } else if (kind === "unlock" && model.holders.length > 0) {
            const [holder] = model.holders.splice(which % model.holders.length, 1);
            if (holder?.startsWith("r")) lock.unlockRead();
            else lock.unlockWrite();
            serve();
          } else if (kind === "abort" && model.queue.length > 0) {
            const [leaver] = model.queue.splice(which % model.queue.length, 1);
            model.got.push(`${leaver} bored`);
            aborts.get(leaver!)?.abort("bored");
            serve();
          }
          await realClock.turn();
          expect([...got].sort()).toEqual([...model.got].sort());
          expect(lock.waiterCount).toBe(model.queue.length);
          expect(lock.readerCount + Number(lock.isWriteLocked)).toBe(model.holders.length);
        }
        const winners = (list: string[]) => list.filter((name) => !name.includes("bored"));
        expect(winners(got)).toEqual(winners(model.got));
      }),
      { numRuns: runs(100) },
    );
  });
});
