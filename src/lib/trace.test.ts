import { expect, test } from "vitest";
import { type TraceEvent, Tracer } from "./trace.ts";

test("is on while somebody listens, and tells all in the order they came", () => {
  const tracer = new Tracer();
  const heard: [string, TraceEvent][] = [];
  expect(tracer.isOn).toBe(false);
  const stopA = tracer.on((event) => heard.push(["a", event]));
  const stopB = tracer.on((event) => heard.push(["b", event]));
  const event = { name: "mm_filemap_add_to_page_cache", index: 3 };
  tracer.emit(event);
  expect(heard).toEqual([
    ["a", event],
    ["b", event],
  ]);
  stopA();
  stopA();
  expect(tracer.isOn).toBe(true);
  tracer.emit({ name: "last" });
  stopB();
  expect(tracer.isOn).toBe(false);
  tracer.emit({ name: "unheard" });
  expect(heard.slice(2)).toEqual([["b", { name: "last" }]]);
});

test("one function that listens twice hears twice, and stops once at a time", () => {
  const tracer = new Tracer();
  let count = 0;
  const listener = () => {
    count++;
  };
  const stop = tracer.on(listener);
  tracer.on(listener);
  tracer.emit({ name: "both" });
  stop();
  tracer.emit({ name: "one" });
  expect([count, tracer.isOn]).toEqual([3, true]);
});

test("a listener may stop listening while it hears", () => {
  const tracer = new Tracer();
  const heard: string[] = [];
  const stop = tracer.on(() => {
    heard.push("once");
    stop();
  });
  tracer.on(() => heard.push("always"));
  tracer.emit({ name: "first" });
  tracer.emit({ name: "second" });
  expect(heard).toEqual(["once", "always", "always"]);
});
