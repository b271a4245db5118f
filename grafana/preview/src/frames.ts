// Answers of Prometheus as Grafana's data frames, with the panel's unit, thresholds and colours.

import {
  type DataFrame,
  type Field,
  type FieldConfig,
  FieldColorModeId,
  FieldType,
  type GrafanaTheme2,
  ThresholdsMode,
  getDisplayProcessor,
  standardTransformers,
  transformDataFrame,
} from '@grafana/data';

import type { Panel, Target } from './dashboard';
import { type Scope, type Series, interpolate, intervalSeconds, legend, queryInstant, queryRange } from './prometheus';

/** An answer to one of a panel's queries. */
export interface Answer {
  target: Target;
  series: Series[];
  stepSeconds: number;
}

/** Asks all of a panel's queries. */
export function answers(panel: Panel, scope: Scope, width: number): Promise<Answer[]> {
  const step = intervalSeconds(scope, width);
  const one = async (target: Target) => {
    const expression = interpolate(target.expr, scope, step);
    const series = target.instant
      ? await queryInstant(expression, scope.range)
      : await queryRange(expression, scope.range, step);
    return { target, series, stepSeconds: step };
  };
  return Promise.all((panel.targets ?? []).map(one));
}

// What Grafana takes when a panel says nothing of its own.
const DEFAULT_THRESHOLDS = {
  mode: ThresholdsMode.Absolute,
  steps: [
    { value: -Infinity, color: 'green' },
    { value: 80, color: 'red' },
  ],
};

/** The panel's configuration with Grafana's defaults below it, and overrides by name above. */
function configOf(panel: Panel, name: string): FieldConfig {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const byValue = panel.type !== 'timeseries';
  const mode = byValue ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic;
  const thresholds = defaults.thresholds ?? DEFAULT_THRESHOLDS;
  // JSON has no -Infinity; the first step's value is null there.
  const steps = thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  const config: FieldConfig = { color: { mode }, ...defaults, thresholds: { ...thresholds, steps } };
  for (const { matcher, properties } of panel.fieldConfig?.overrides ?? []) {
    if (matcher.id === 'byName' && matcher.options === name) {
      for (const { id, value } of properties) {
        const custom = id.startsWith('custom.') ? id.slice('custom.'.length) : undefined;
        if (custom) {
          config.custom = { ...config.custom, [custom]: value };
        } else {
          Object.assign(config, { [id]: value });
        }
      }
    }
  }
  return config;
}

/** Gives each field its configuration and the function that writes its values. */
function dress(frames: DataFrame[], panel: Panel, theme: GrafanaTheme2): DataFrame[] {
  let seriesIndex = 0;
  for (const field of frames.flatMap((frame) => frame.fields)) {
    const name = field.config.displayName ?? field.name;
    if (field.type !== FieldType.time) {
      field.config = { ...configOf(panel, name), ...field.config };
    }
    if (field.type === FieldType.number) {
      field.state = { ...field.state, seriesIndex: seriesIndex++, displayName: name };
    }
    field.display = getDisplayProcessor({ field, theme });
  }
  return frames;
}

/** A frame a series: time and value. */
export function seriesFrames(all: Answer[], panel: Panel, theme: GrafanaTheme2): DataFrame[] {
  const frame = ({ target, stepSeconds }: Answer, { labels, times, values }: Series): DataFrame => {
    const displayName = legend(target.legendFormat, labels);
    const time: Field = { name: 'Time', type: FieldType.time, config: { interval: stepSeconds * 1000 }, values: times };
    const value: Field = { name: 'Value', type: FieldType.number, config: { displayName }, labels, values };
    return { refId: target.refId, name: displayName, length: times.length, fields: [time, value] };
  };
  return dress(
    all.flatMap((answer) => answer.series.map((series) => frame(answer, series))),
    panel,
    theme
  );
}

/** A frame a query, a row a series, after the panel's transformations. */
export async function tableFrame(all: Answer[], panel: Panel, theme: GrafanaTheme2): Promise<DataFrame | undefined> {
  const frames = all.map(({ target, series }) => {
    const labels = [...new Set(series.flatMap((one) => Object.keys(one.labels)))].sort();
    const column = (name: string, type: FieldType, values: unknown[]): Field => ({ name, type, config: {}, values });
    const fields = [
      column('Time', FieldType.time, series.map((one) => one.times[0])),
      ...labels.map((label) => column(label, FieldType.string, series.map((one) => one.labels[label]))),
      column(`Value #${target.refId}`, FieldType.number, series.map((one) => one.values[0])),
    ];
    return { refId: target.refId, length: series.length, fields };
  });
  const operators = (panel.transformations ?? []).map(({ id, options }) => {
    const known = [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer];
    const transformer = known.find((one) => one.id === id);
    if (!transformer) {
      throw new Error(`the preview does not know the transformation ${id}`);
    }
    return (context: Parameters<typeof transformer.operator>[1]) => transformer.operator({ ...transformer.defaultOptions, ...options }, context);
  });
  const transformed = await new Promise<DataFrame[]>((resolve, reject) => {
    transformDataFrame(operators, frames).subscribe({ next: resolve, error: reject });
  });
  return dress(transformed, panel, theme)[0];
}
