import { expect, test } from "vitest";
import { VirtualClock } from "../lib/clock.ts";
import { CompletionQueue, completionsOf, FOLIOS_PER_TURN } from "./completion.ts";

test("work is done at once while there is little of it", () => {
  const clock = new VirtualClock();
  const queue = new CompletionQueue(clock);
  let done = 0;
  for (let at = 1; at < FOLIOS_PER_TURN; at++) queue.add(() => done++, 1);
  expect(done).toBe(FOLIOS_PER_TURN - 1);
  expect(clock.turnCount).toBe(0);
});

test("what comes while the queue is worked off goes to its end", async () => {
  const clock = new VirtualClock();
  const queue = new CompletionQueue(clock);
  const order: string[] = [];
  queue.add(() => order.push("first"), FOLIOS_PER_TURN);
  queue.add(() => {
    order.push("second");
    queue.add(() => order.push("from second"), 1);
  }, 1);
  queue.add(() => order.push("third"), 1);
  expect(order).toEqual(["first"]);
  await clock.turn();
  await clock.turn();
  expect(order).toEqual(["first", "second", "third", "from second"]);
});

test("time that passes between completions does not count", () => {
  const clock = new VirtualClock();
  const queue = new CompletionQueue(clock);
  let done = 0;
  for (let at = 0; at < 100; at++) {
    clock.spend(10);
    queue.add(() => done++, 1);
  }
  expect(done).toBe(100);
});

test("a clock has one queue", () => {
  const clock = new VirtualClock();
  expect(completionsOf(clock)).toBe(completionsOf(clock));
  expect(completionsOf(new VirtualClock())).not.toBe(completionsOf(clock));
});
