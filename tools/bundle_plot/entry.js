// What src/graft/report/shared/charts.js draws with; esbuild leaves out all else that it can.
export { axisX, axisY, differenceY, dot, gridY, line, link, plot, rect, ruleX, ruleY, text } from "@observablehq/plot";
