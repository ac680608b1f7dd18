/** Fairness of locks: page-cache-and-writeback, rule JS-2 and case 127. */
import { expect, test } from "vitest";
import { realClock } from "../../../src/lib/clock.ts";
import { AsyncMutex } from "../../../src/lib/locks.ts";

test("W127 Lock fairness: 1000 waiters get a lock in FIFO order, and no trylock overtakes", async () => {
  const lock = new AsyncMutex();
  expect(lock.lock()).toBeUndefined();
  const order: number[] = [];
  let overtakes = 0;
  const tryOvertake = () => {
    if (lock.tryLock()) overtakes++;
  };
  const waiters = Array.from({ length: 1000 }, async (_, number) => {
    await lock.lock();
    order.push(number);
    tryOvertake();
    if (number % 3 === 0) await realClock.turn(); // Some keep it over a wait.
    lock.unlock();
    tryOvertake(); // Right after the unlock, before the next owner has run.
    realClock.microtask(tryOvertake);
  });
  tryOvertake();
  lock.unlock();
  tryOvertake();
  await Promise.all(waiters.slice(0, 999));
  expect(order.slice(0, 999)).toEqual(Array.from({ length: 999 }, (_, number) => number));
  expect(overtakes).toBe(0);
  await waiters[999];
  expect(order[999]).toBe(999);
});
