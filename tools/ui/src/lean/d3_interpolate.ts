// Stands in for d3-interpolate in the bundle: whatever moves on the canvas jumps (d3_transition.ts), so nothing lies between.

export function interpolateZoom<View>(_from: View, to: View): (at: number) => View {
  return () => to;
}

export const interpolate = interpolateZoom;
